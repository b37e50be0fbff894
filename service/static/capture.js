// The microphone.

import { Problem } from "./api.js";

/**
 * Open the microphone: {sampleRate, close}. onBlock gets {samples: Int16Array, peak}; onGone is
 * called when it is pulled out or taken away.
 *
 * Throws a Problem that says what to do if there is no microphone or it is refused.
 */
export async function openMicrophone(onBlock, onGone) {
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    throw new Problem({
      title: "No microphone here",
      detail:
        "Browsers lend the microphone only to pages that came over https, or from this very " +
        "machine. Open the page as https, or record elsewhere and choose the file.",
    });
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      // What makes speech clearer takes other sounds away.
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    throw refusal(error);
  }
  const context = new AudioContext();
  const close = () => {
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") context.close();
  };
  try {
    await context.audioWorklet.addModule("static/capture-worklet.js");
    await context.resume();
    const node = new AudioWorkletNode(context, "capture");
    node.port.onmessage = (event) => onBlock(event.data);
    // It is silent; a node that leads nowhere is not run by every browser.
    context.createMediaStreamSource(stream).connect(node).connect(context.destination);
  } catch (error) {
    close();
    throw refusal(error);
  }
  stream.getAudioTracks()[0].addEventListener("ended", onGone); // close() does not cause it
  return { sampleRate: context.sampleRate, close };
}

function refusal(error) {
  if (error.name === "NotAllowedError" || error.name === "SecurityError") {
    return new Problem({
      title: "The microphone was refused",
      detail:
        "Allow it for this page, by the icon beside the address or in the browser's settings, and " +
        "try again. Or choose a file.",
    });
  }
  if (error.name === "NotFoundError") {
    return new Problem({
      title: "No microphone was found",
      detail: "Connect one and try again, or choose a file.",
    });
  }
  return new Problem({
    title: "The microphone cannot be used",
    detail: `Is another program using it? Close that and try again. (${error.message || error.name})`,
  });
}
