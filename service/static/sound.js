// What the browser makes of a file: can it be played, and how does it look.

import { wavLayout, wavPiece } from "./wav.js";

// What the model hears. The spectrogram is of this too.
export const SAMPLE_RATE_HZ = 16_000;
// Decoding takes all of a sound into memory: ten minutes in stereo are 200 MB for a moment.
const MAX_SECONDS_AT_ONCE = 600;
// A spectrogram has 80 columns a second, whatever is seen of them.
const MAX_SPECTROGRAM_SECONDS = 300;
// Of a file whose length the browser cannot tell.
const MAX_BYTES_AT_ONCE = 32 << 20;
// Longer sounds are gone through in pieces.
const PIECE_SECONDS = 60;
// Enough for a waveform that is zoomed in.
const N_PEAKS = 12_000;
const MP3_PIECE_BYTES = 1 << 20;
const METADATA_TIMEOUT_MS = 8_000;
const UNPLAYABLE =
  "This browser cannot play this kind of file, so there is nothing to hear or to draw. The tags " +
  "are the service's and complete.";

/**
 * Look at a file: {audio, seconds, peaks, samples, note}.
 *
 * audio: an element that plays it, null if this browser cannot; seconds: its length, null if
 * unknown; peaks: Float32Array to draw as a waveform; samples: Float32Array at 16 kHz for a
 * spectrogram. What there is none of is null, and then note says why.
 */
export async function readSound(file, signal) {
  const [audio, seconds] = await openAudio(file);
  const release = () => closeAudio(audio);
  signal.addEventListener("abort", release, { once: true });
  const isLong = seconds === null ? file.size > MAX_BYTES_AT_ONCE : seconds > MAX_SECONDS_AT_ONCE;
  const sound = { audio, seconds, peaks: null, samples: null, note: "" };
  try {
    if (isLong) {
      sound.peaks = await peaksInPieces(file, seconds, signal);
      if (!sound.peaks) {
        sound.note = audio
          ? "No waveform: of sounds longer than ten minutes it is drawn for WAV and MP3 files."
          : UNPLAYABLE;
      }
    } else {
      const samples = await decode(await file.arrayBuffer());
      sound.seconds ??= samples.length / SAMPLE_RATE_HZ;
      sound.peaks = thinned(levelsOf(samples, Math.ceil(samples.length / N_PEAKS)), N_PEAKS);
      if (sound.seconds <= MAX_SPECTROGRAM_SECONDS) sound.samples = samples;
    }
    if (sound.peaks && !sound.samples) {
      sound.note = "No spectrogram: it is drawn of sounds of up to five minutes.";
    }
  } catch {
    sound.note = audio
      ? "No waveform: this browser plays the sound, but cannot take it apart."
      : UNPLAYABLE;
  }
  signal.removeEventListener("abort", release);
  return sound;
}

/** Stop, and let go of the file. */
export function closeAudio(audio) {
  if (!audio?.src) return;
  URL.revokeObjectURL(audio.src);
  audio.pause();
  audio.removeAttribute("src");
  audio.load();
}

function openAudio(file) {
  const audio = new Audio();
  audio.preload = "metadata";
  audio.src = URL.createObjectURL(file);
  return new Promise((resolve) => {
    const refuse = () => {
      closeAudio(audio);
      resolve([null, null]);
    };
    const timer = setTimeout(refuse, METADATA_TIMEOUT_MS);
    audio.addEventListener("error", () => { clearTimeout(timer); refuse(); }, { once: true });
    audio.addEventListener("loadedmetadata", () => {
      clearTimeout(timer);
      if (audio.duration === 0) return refuse();
      return resolve([audio, Number.isFinite(audio.duration) ? audio.duration : null]);
    }, { once: true });
  });
}

/** The bytes of a file -> its samples at 16 kHz, the mean over channels. */
async function decode(data, rate = SAMPLE_RATE_HZ) {
  const decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(data);
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, i) => decoded.getChannelData(i));
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, i) => channels.reduce((sum, c) => sum + c[i], 0) / channels.length);
}

/** Peaks of a long WAV or MP3 file; null for other kinds. The page stays responsive meanwhile. */
async function peaksInPieces(file, seconds, signal) {
  const pieces = await piecesOf(file);
  if (!pieces) return null;
  const levels = [];
  // Loudest samples of tenths of a second, few enough for days of sound.
  const step = Math.max(800, Math.round(((seconds ?? 3_600) * 8_000) / (4 * N_PEAKS)));
  for (const piece of pieces) {
    signal.throwIfAborted();
    const samples = await decode(await piece(), 8_000);
    levels.push(...levelsOf(samples, step));
  }
  return thinned(levels, N_PEAKS);
}

/** The loudest of each `step` samples. */
function levelsOf(samples, step) {
  const levels = [];
  for (let at = 0; at < samples.length; at += step) {
    let highest = 0;
    for (const sample of samples.subarray(at, at + step)) highest = Math.max(highest, Math.abs(sample));
    levels.push(highest);
  }
  return levels;
}

/** Functions that give the file in pieces that can be decoded one by one. */
async function piecesOf(file) {
  const layout = await wavLayout(file);
  if (layout) {
    const { start, end, bytesPerSecond, blockBytes } = layout;
    const size = Math.floor((PIECE_SECONDS * bytesPerSecond) / blockBytes) * blockBytes;
    return starts(start, end, size).map((at) => () => wavPiece(file, layout, at, Math.min(end, at + size)));
  }
  const head = new Uint8Array(await file.slice(0, 10).arrayBuffer());
  const isTagged = String.fromCharCode(...head.subarray(0, 3)) === "ID3";
  if (!isTagged && !(head[0] === 0xff && (head[1] & 0xe6) === 0xe2)) return null;
  // A tag with a picture may be longer than a piece. Its length has seven bits a byte.
  const start = isTagged ? 10 + head.subarray(6).reduce((n, byte) => (n << 7) | byte, 0) : 0;
  // A decoder finds the next frame by itself.
  return starts(start, file.size, MP3_PIECE_BYTES).map((at) => () => file.slice(at, at + MP3_PIECE_BYTES).arrayBuffer());
}

const starts = (start, end, size) =>
  Array.from({ length: Math.ceil((end - start) / size) }, (_, i) => start + i * size);

/** The highest of equal shares of the levels, at most n. */
function thinned(levels, n) {
  const length = Math.min(n, levels.length);
  const peaks = new Float32Array(length);
  levels.forEach((level, i) => {
    const at = Math.floor((i * length) / levels.length);
    peaks[at] = Math.max(peaks[at], level);
  });
  return peaks;
}
