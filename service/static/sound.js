// Decode a file in the browser, for playback and drawing.

import { wavLayout, wavPiece } from "./wav.js";

// The sample rate of the model, also for the spectrogram.
export const SAMPLE_RATE_HZ = 16_000;
// Decoding needs memory for the whole clip: about 200 MB for ten minutes in stereo.
const MAX_SECONDS_AT_ONCE = 600;
// A spectrogram has 80 columns a second at every zoom.
const MAX_SPECTROGRAM_SECONDS = 300;
// Of a file whose duration the browser does not know.
const MAX_BYTES_AT_ONCE = 32 << 20;
// Longer clips are decoded in pieces.
const PIECE_SECONDS = 60;
// Enough for a waveform that is zoomed in.
const N_PEAKS = 12_000;
const MP3_PIECE_BYTES = 1 << 20;
const METADATA_TIMEOUT_MS = 8_000;
const UNPLAYABLE =
  "This browser cannot play this file format, so there is no playback and no waveform. The tags " +
  "are complete.";

/**
 * Read a file: {audio, seconds, peaks, samples, note}.
 *
 * audio: an element that plays it; seconds: its duration; peaks: Float32Array for the waveform;
 * samples: Float32Array at 16 kHz for the spectrogram. Each may be null; note then says why.
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
          ? "No waveform: for clips longer than ten minutes, only WAV and MP3 files have one."
          : UNPLAYABLE;
      }
    } else {
      const samples = await decode(await file.arrayBuffer());
      sound.seconds ??= samples.length / SAMPLE_RATE_HZ;
      sound.peaks = thinned(levelsOf(samples, Math.ceil(samples.length / N_PEAKS)), N_PEAKS);
      if (sound.seconds <= MAX_SPECTROGRAM_SECONDS) sound.samples = samples;
    }
    if (sound.peaks && !sound.samples) {
      sound.note = "No spectrogram: only clips of up to five minutes have one.";
    }
  } catch {
    sound.note = audio
      ? "No waveform: this browser can play the file, but not decode it."
      : UNPLAYABLE;
  }
  signal.removeEventListener("abort", release);
  return sound;
}

/** Stop playback and release the file. */
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

/** Decode a file to mono samples at 16 kHz. */
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
  // Peaks of tenths of a second, or longer for very long clips.
  const step = Math.max(800, Math.round(((seconds ?? 3_600) * 8_000) / (4 * N_PEAKS)));
  for (const piece of pieces) {
    signal.throwIfAborted();
    const samples = await decode(await piece(), 8_000);
    levels.push(...levelsOf(samples, step));
  }
  return thinned(levels, N_PEAKS);
}

/** The peak of each `step` samples. */
function levelsOf(samples, step) {
  const levels = [];
  for (let at = 0; at < samples.length; at += step) {
    let highest = 0;
    for (const sample of samples.subarray(at, at + step)) highest = Math.max(highest, Math.abs(sample));
    levels.push(highest);
  }
  return levels;
}

/** Functions that return pieces of the file that can be decoded one by one. */
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

/** At most n maxima over equal parts of the levels. */
function thinned(levels, n) {
  const length = Math.min(n, levels.length);
  const peaks = new Float32Array(length);
  levels.forEach((level, i) => {
    const at = Math.floor((i * length) / levels.length);
    peaks[at] = Math.max(peaks[at], level);
  });
  return peaks;
}
