// The microphone.

import { Problem } from "./api.js";

/**
 * Open the microphone: {sampleRate, close}. onBlock gets {samples: Int16Array, peak}; onGone is
 * called when it is disconnected.
 *
 * Throws a Problem if there is no microphone or access is denied.
 */
export async function openMicrophone(onBlock, onGone) {
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    throw new Problem({
      title: "No access to the microphone",
      detail:
        "Browsers allow the microphone only on pages loaded over https or from the same machine. " +
        "Open the page over https, or choose a recorded file.",
    });
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      // Speech enhancement removes other sounds.
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
    // Its output is silent; some browsers do not run a node without a destination.
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
      title: "Access to the microphone was denied",
      detail:
        "Allow it with the icon next to the address or in the browser's settings, and try again; or " +
        "choose a file.",
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
    detail: `Another program may be using it. Close that program and try again. (${error.message || error.name})`,
  });
}
