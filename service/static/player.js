// The waveform and the spectrogram: wavesurfer.js on an audio element that is ready.

import { spectrogramColours, waveColours } from "./colours.js";
import { SAMPLE_RATE_HZ } from "./sound.js";
import RegionsPlugin from "./vendor/regions.esm.js";
import SpectrogramPlugin from "./vendor/spectrogram.esm.js";
import WaveSurfer from "./vendor/wavesurfer.esm.js";

// The bands of the model's log-mel, and its window of 25 ms at 16 kHz.
export const LOWEST_HZ = 125;
export const HIGHEST_HZ = 7_500;
const WINDOW_SAMPLES = 400;
const FFT_SAMPLES = 512;
const RANGE_DB = 70;
export const WAVE_HEIGHT = 88;
export const SPECTROGRAM_HEIGHT = 112;

/** Draws the result of readSound into `container`. */
export class Player {
  constructor(container, sound, nonce) {
    const { wave, played } = waveColours();
    this.regions = RegionsPlugin.create();
    this.surfer = WaveSurfer.create({
      container,
      media: sound.audio ?? undefined,
      peaks: [sound.peaks],
      duration: sound.seconds,
      height: WAVE_HEIGHT,
      waveColor: wave,
      progressColor: played,
      cursorWidth: 0, // the figure has a cursor across all rows
      interact: false,
      hideScrollbar: true,
      normalize: true,
      barWidth: 2,
      barGap: 1,
      barRadius: 2,
      barMinHeight: 1,
      cspNonce: nonce,
      plugins: [this.regions],
    });
    this.spectrogram = null;
    this.samples = sound.samples;
    // The spectrogram is computed from these samples; the waveform uses the peaks.
    if (this.samples) this.surfer.getDecodedData = () => asBuffer(this.samples, sound.seconds);
    this.drawSpectrogram();
  }

  /** Mark these segments of the result, and no others. */
  mark(segments) {
    this.regions.clearRegions();
    for (const { start_seconds: start, end_seconds: end } of segments) {
      this.regions.addRegion({ start, end, drag: false, resize: false, color: "transparent" });
    }
  }

  /** Redraw in the current colour scheme. */
  recolour() {
    const { wave, played } = waveColours();
    this.surfer.setOptions({ waveColor: wave, progressColor: played });
    this.drawSpectrogram();
  }

  close() {
    this.surfer.destroy();
  }

  drawSpectrogram() {
    if (!this.samples) return;
    if (this.spectrogram) this.surfer.unregisterPlugin(this.spectrogram);
    this.spectrogram = this.surfer.registerPlugin(
      SpectrogramPlugin.create({
        height: SPECTROGRAM_HEIGHT,
        fftSamples: WINDOW_SAMPLES,
        fftSize: FFT_SAMPLES,
        noverlap: WINDOW_SAMPLES / 2,
        windowFunc: "hann",
        scale: "mel",
        frequencyMin: LOWEST_HZ,
        frequencyMax: HIGHEST_HZ,
        autoGain: true,
        rangeDB: RANGE_DB,
        colorMap: spectrogramColours(),
        useWebWorker: true,
        fallbackToMainThread: false, // a late spectrogram is better than a page that hangs
      }),
    );
  }
}

/** The part of the AudioBuffer interface that the plugin uses. */
const asBuffer = (samples, duration) => ({
  duration,
  length: samples.length,
  sampleRate: SAMPLE_RATE_HZ,
  numberOfChannels: 1,
  getChannelData: () => samples,
});
