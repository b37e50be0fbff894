// Colours of the canvases; those of the page are in app.css.

const DARK = matchMedia("(prefers-color-scheme: dark)");

// Colour maps from low to high, as [fraction, red, green, blue].
const STOPS = {
  light: [
    [0, 246, 241, 233],
    [0.25, 252, 214, 170],
    [0.5, 244, 146, 79],
    [0.75, 200, 64, 28],
    [1, 88, 16, 20],
  ],
  dark: [
    [0, 38, 33, 29],
    [0.25, 92, 30, 30],
    [0.5, 184, 54, 28],
    [0.75, 245, 142, 62],
    [1, 255, 236, 190],
  ],
};
const WAVES = {
  light: { wave: "#b8a994", played: "#c2410c" },
  dark: { wave: "#7d6f60", played: "#ff8a4c" },
};

const theme = () => (DARK.matches ? "dark" : "light");

/** 256 colours [red, green, blue] from 0 to 255. */
export function ramp() {
  const stops = STOPS[theme()];
  return Array.from({ length: 256 }, (_, i) => {
    const share = i / 255;
    const upper = Math.max(1, stops.findIndex(([at]) => at >= share));
    const [[from, ...low], [to, ...high]] = [stops[upper - 1], stops[upper]];
    return low.map((c, k) => Math.round(c + ((high[k] - c) * (share - from)) / (to - from)));
  });
}

/** The same for wavesurfer.js: red, green, blue and alpha from 0 to 1. */
export const spectrogramColours = () => ramp().map((rgb) => [...rgb.map((c) => c / 255), 1]);

/** The colours of the waveform: {wave, played}. */
export const waveColours = () => WAVES[theme()];

/** Call `listener` when the colour scheme changes; returns a function that removes it. */
export function onSchemeChange(listener) {
  DARK.addEventListener("change", listener);
  return () => DARK.removeEventListener("change", listener);
}
