// Downloads of a result.

/** All formats: {name, what, suffix, type, of(answer), has(answer)}. */
export const FORMATS = [
  {
    name: "JSON",
    what: "the complete response",
    suffix: ".json",
    type: "application/json",
    of: (answer) => `${JSON.stringify(answer, null, 2)}\n`,
    has: () => true,
  },
  {
    name: "CSV",
    what: "one row per tag",
    suffix: ".csv",
    type: "text/csv",
    of: (answer) =>
      csv(
        ["file", "label", "mid", "index", "score"],
        answer.tags.map((tag) => [answer.file ?? "", tag.label, tag.mid, tag.index, tag.score]),
      ),
    has: () => true,
  },
  {
    name: "CSV over time",
    what: "one row per tag and frame",
    suffix: ".frames.csv",
    type: "text/csv",
    of: ({ file, tracks }) =>
      csv(
        ["file", "start_seconds", "label", "mid", "index", "score"],
        tracks.start_seconds.flatMap((start, i) =>
          tracks.tags.map((tag) => [file ?? "", start, tag.label, tag.mid, tag.index, tag.scores[i]]),
        ),
      ),
    has: (answer) => Boolean(answer.tracks),
  },
  {
    name: "Audacity labels",
    what: "segments of each tag",
    suffix: ".txt",
    type: "text/plain",
    of: (answer) =>
      [...answer.segments]
        .sort((a, b) => a.start_seconds - b.start_seconds || a.end_seconds - b.end_seconds)
        .map((s) => `${s.start_seconds.toFixed(6)}\t${s.end_seconds.toFixed(6)}\t${oneLine(s.label)}\n`)
        .join(""),
    has: (answer) => Boolean(answer.segments),
  },
];

/** Save a result in a format. */
export function download(answer, format) {
  const stem = (answer.file ?? "sound").replace(/\.[^.]*$/, "") || "sound";
  const url = URL.createObjectURL(new Blob([format.of(answer)], { type: format.type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = stem + format.suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const oneLine = (text) => text.replace(/\s+/g, " ");

const csv = (header, rows) => [header, ...rows].map((row) => `${row.map(cell).join(",")}\n`).join("");

function cell(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
