// Audio worklet: the microphone as mono blocks of 16-bit samples.

const BLOCK_SAMPLES = 2048;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(BLOCK_SAMPLES);
    this.filled = 0;
    this.peak = 0;
  }

  process([channels]) {
    const n = channels[0]?.length ?? 0;
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      const sample = Math.max(-1, Math.min(1, sum / channels.length));
      this.peak = Math.max(this.peak, Math.abs(sample));
      this.block[this.filled++] = Math.round(sample * 32767);
      if (this.filled === BLOCK_SAMPLES) this.send();
    }
    return true;
  }

  send() {
    this.port.postMessage({ samples: this.block, peak: this.peak }, [this.block.buffer]);
    this.block = new Int16Array(BLOCK_SAMPLES);
    this.filled = 0;
    this.peak = 0;
  }
}

registerProcessor("capture", Capture);
