// Adds boxes for trying the trained runs of this server to the questions of the book. Only the server loads this file.
"use strict";

const MAX_RECORDED = 30; // seconds

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function placesOf(run) {
  const all = document.querySelector(".try-all");
  if (all) return [all];
  return run.questions.flatMap(([sheet, question]) => {
    const places = [...document.querySelectorAll(".try-it")];
    return places.filter(({ dataset }) => dataset.sheet === sheet && dataset.question === question);
  });
}

function addRun(run, number, place) {
  const status = element("p", { className: "try-status", role: "status" });
  const result = element("div");
  const box = element("section", { className: "try-run", ariaLabel: `Try it: ${run.title}` },
    element("p", { className: "try-title", textContent: `Try it: ${run.title}` }), element("p", { textContent: run.task }));
  const say = (text, isError = false) => {
    status.textContent = text;
    status.classList.toggle("error", isError);
  };

  let sent = 0; // only the answer to the last upload is shown
  async function send(blob) {
    const mine = ++sent;
    if (blob.size > run.max_bytes) return say(`This file is larger than ${run.max_bytes / 1e6} MB.`, true);
    say("working …");
    let found;
    try {
      const answer = await fetch(`/try/runs/${number}`, { method: "POST", body: blob });
      found = await answer.json();
    } catch {
      found = { error: "the server does not answer" };
    }
    if (mine !== sent) return;
    say(found.error ?? "", "error" in found);
    result.replaceChildren(...("error" in found ? [] : shown(found)));
  }

  if (run.canvas) box.append(...drawing(run.canvas, send));
  const input = element("input", { type: "file", accept: `${run.kind === "image" ? "image" : "audio"}/*` });
  input.addEventListener("change", () => input.files[0] && send(input.files[0]));
  box.append(element("label", {}, `${run.kind === "image" ? "Image" : "Sound"} file: `, input));
  if (run.kind === "sound") box.append(recorder(send, say));
  box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("dropping"); });
  box.addEventListener("dragleave", () => box.classList.remove("dropping"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    file ? send(file) : say("Drop a file.", true);
  });
  box.append(status, result);
  place.hidden = false;
  place.append(box);
}

function shown(found) {
  const parts = [element("p", { className: "try-answer", textContent: found.text })];
  parts.push(...found.notes.map((note) => element("p", { textContent: note })));
  if (found.probabilities.length) {
    const rows = found.probabilities.map(([name, value]) => element("tr", {},
      element("th", { scope: "row", textContent: name }),
      element("td", {}, element("meter", { value, max: 1, ariaLabel: `probability of ${name}` })),
      element("td", { textContent: value.toFixed(3) })));
    parts.push(element("table", {}, element("caption", { textContent: "Probabilities" }), ...rows));
  }
  for (const [title, pictures] of Object.entries(found.pictures)) {
    const row = pictures.map((picture) => {
      const image = element("img", { alt: picture.alt, src: picture.source });
      image.addEventListener("load", () => {
        const width = image.naturalWidth;
        image.className = width < 12 && image.naturalHeight > 12 ? "thin" : width < 64 ? "small" : width > 400 ? "large" : "";
      });
      return element("figure", {}, image, element("figcaption", { textContent: picture.label }));
    });
    parts.push(element("p", { textContent: title }), element("div", { className: "try-row" }, ...row));
  }
  return parts;
}

// ── Drawing ────────────────────────────────────────────────────────────────────────────────────────────────────────

function drawing(settings, send) {
  const { width, height, ink, paper, margin } = settings;
  const canvas = element("canvas", { width, height, role: "img", ariaLabel: "Drawing area; choose a file if you cannot draw." });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let timer;
  const clear = () => {
    clearTimeout(timer);
    Object.assign(pen, { fillStyle: paper, strokeStyle: ink, lineCap: "round", lineJoin: "round", lineWidth: height / 12 });
    pen.fillRect(0, 0, width, height);
  };
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * width / box.width, (event.clientY - box.top) * height / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    clearTimeout(timer);
    canvas.setPointerCapture(event.pointerId);
    pen.beginPath();
    pen.moveTo(...point(event));
    pen.lineTo(...point(event));
    pen.stroke();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    pen.lineTo(...point(event));
    pen.stroke();
  });
  canvas.addEventListener("lostpointercapture", () => {
    timer = setTimeout(() => (margin === null ? canvas : fitted(pen, settings)).toBlob(send), 600);
  });
  clear();
  const button = element("button", { type: "button", textContent: "Clear" });
  button.addEventListener("click", clear);
  return [canvas, button];
}

// Crops a drawing to its ink and centres it in a square, as the images of the data set are.
function fitted(pen, { width, height, ink, paper, margin }) {
  const { data } = pen.getImageData(0, 0, width, height);
  const bright = ink === "white";
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let i = 0; i < width * height; i++) {
    if ((data[4 * i] > 127) !== bright) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x + 1), Math.max(bottom, y + 1)];
  }
  const side = 280;
  const scale = side * (1 - 2 * margin) / Math.max(right - left, bottom - top, 1);
  const [w, h] = [(right - left) * scale, (bottom - top) * scale];
  const square = element("canvas", { width: side, height: side });
  const brush = square.getContext("2d");
  brush.fillStyle = paper;
  brush.fillRect(0, 0, side, side);
  brush.drawImage(pen.canvas, left, top, right - left, bottom - top, (side - w) / 2, (side - h) / 2, w, h);
  return square;
}

// ── Recording ──────────────────────────────────────────────────────────────────────────────────────────────────────

function recorder(send, say) {
  const button = element("button", { type: "button", textContent: "Record" });
  let stop = null; // ends the recording that is running
  button.addEventListener("click", async () => {
    if (stop) return stop();
    if (!navigator.mediaDevices) return say("Browsers record only on this machine or over https; choose a file.", true);
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      const context = new AudioContext();
      await context.audioWorklet.addModule("/try/static/recorder.js");
      const node = new AudioWorkletNode(context, "recorder");
      const blocks = [];
      node.port.onmessage = ({ data }) => blocks.push(data);
      context.createMediaStreamSource(stream).connect(node);
      const timer = setTimeout(() => stop(), 1000 * MAX_RECORDED);
      button.textContent = "Stop";
      say(`recording, at most ${MAX_RECORDED} seconds …`);
      stop = () => {
        clearTimeout(timer);
        stop = null;
        stream.getTracks().forEach((track) => track.stop());
        context.close();
        button.textContent = "Record";
        send(wav(blocks, context.sampleRate));
      };
    } catch (error) {
      say(`The microphone cannot be used: ${error.message}`, true);
    }
  });
  return button;
}

// A WAV file of 16-bit samples.
function wav(blocks, rate) {
  const count = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * count));
  const write = (offset, text) => [...text].forEach((letter, i) => view.setUint8(offset + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * count, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * count, true);
  let offset = 44;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(offset, 32767 * Math.max(-1, Math.min(1, sample)), true);
      offset += 2;
    }
  }
  return new Blob([view], { type: "audio/wav" });
}

fetch("/try/runs").then((answer) => answer.json()).then((runs) => {
  runs.forEach((run, number) => placesOf(run).forEach((place) => addRun(run, number, place)));
  const all = document.querySelector(".try-all");
  if (all && !runs.length) all.append(element("p", { textContent: "No run is served; name some: python -m hw_report serve RUN…" }));
});
