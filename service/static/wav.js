// WAV files: write recordings, and find the samples in existing files.

/** The header for a number of bytes of samples; format: the bytes of the "fmt " chunk. */
function header(format, bytes) {
  const view = new DataView(new ArrayBuffer(28 + format.byteLength));
  const text = (at, letters) => [...letters].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 20 + format.byteLength + bytes, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, format.byteLength, true);
  new Uint8Array(view.buffer).set(new Uint8Array(format), 20);
  text(20 + format.byteLength, "data");
  view.setUint32(24 + format.byteLength, bytes, true);
  return view;
}

/** Make a 16-bit mono WAV file from pieces, Int16Array, in order. */
export function wavFile(pieces, sampleRate, name) {
  const format = new DataView(new ArrayBuffer(16));
  format.setUint16(0, 1, true); // integers
  format.setUint16(2, 1, true); // channels
  format.setUint32(4, sampleRate, true);
  format.setUint32(8, 2 * sampleRate, true); // bytes a second
  format.setUint16(12, 2, true); // bytes of all channels
  format.setUint16(14, 16, true); // bits
  const bytes = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  return new File([header(format.buffer, bytes), ...pieces], name, { type: "audio/wav" });
}

/**
 * Find the samples of a WAV file: {format, blockBytes, bytesPerSecond, start, end}, where format is
 * the bytes of its "fmt " chunk. Returns null if it is not a standard WAV file.
 */
export async function wavLayout(file) {
  const view = new DataView(await file.slice(0, 1 << 16).arrayBuffer());
  const tag = (at) => String.fromCharCode(...new Uint8Array(view.buffer, at, 4));
  if (view.byteLength < 44 || tag(0) !== "RIFF" || tag(8) !== "WAVE") return null;
  let format = null;
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    if (tag(at) === "fmt " && at + 8 + size <= view.byteLength && size >= 16) {
      format = view.buffer.slice(at + 8, at + 8 + size);
    } else if (tag(at) === "data") {
      const fields = format && new DataView(format);
      const blockBytes = fields?.getUint16(12, true);
      if (!blockBytes) return null;
      const bytesPerSecond = fields.getUint32(4, true) * blockBytes;
      return { format, blockBytes, bytesPerSecond, start: at + 8, end: Math.min(file.size, at + 8 + size) };
    }
    at += 8 + size + (size % 2);
  }
  return null;
}

/** Make a WAV file of the samples between two positions of a large one. */
export const wavPiece = (file, { format }, start, end) =>
  new Blob([header(format, end - start), file.slice(start, end)]).arrayBuffer();
