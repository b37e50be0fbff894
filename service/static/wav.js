// WAV files: written from recordings, and the places in those that are given.

/** A 16-bit WAV file of one channel: pieces Int16Array, in order. */
export function wavFile(pieces, sampleRate, name) {
  const bytes = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((c, i) => header.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // integers
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, 2 * sampleRate, true); // bytes a second
  header.setUint16(32, 2, true); // bytes of all channels
  header.setUint16(34, 16, true); // bits
  text(36, "data");
  header.setUint32(40, bytes, true);
  return new File([header, ...pieces], name, { type: "audio/wav" });
}

/**
 * Where the samples of a WAV file are: {format, blockBytes, bytesPerSecond, start, end}, format
 * being the bytes of its "fmt " chunk. null if it is no WAV file, or not a usual one.
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

/** A small WAV file of the samples between two places of a large one. */
export function wavPiece(file, layout, start, end) {
  const { format } = layout;
  const header = new DataView(new ArrayBuffer(28 + format.byteLength));
  const text = (at, letters) => [...letters].forEach((c, i) => header.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 20 + format.byteLength + end - start, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, format.byteLength, true);
  new Uint8Array(header.buffer).set(new Uint8Array(format), 20);
  text(20 + format.byteLength, "data");
  header.setUint32(24 + format.byteLength, end - start, true);
  return new Blob([header, file.slice(start, end)]).arrayBuffer();
}
