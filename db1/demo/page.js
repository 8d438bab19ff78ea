"use strict";
const byId = name => document.getElementById(name);
const MAX_UPLOAD = 10 * 1024 * 1024;

async function fail(response) {
  let text = `error ${response.status}`;
  try { text = (await response.json()).error || text; } catch { /* no JSON: keep the status */ }
  throw new Error(text);
}

// Reads a response line by line; every line is one JSON object.
async function eachLine(address, body, signal, take) {
  const response = await fetch(address, { method: "POST", body: JSON.stringify(body), signal });
  if (!response.ok) await fail(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const piece = JSON.parse(line);
      if (piece.error) throw new Error(piece.error);
      take(piece);
    }
  }
}

// Marks the card of an element as at work.
function busy(element, is) {
  element.closest("section").classList.toggle("busy", is);
}

// Runs work with a stop button; shows its error in one place.
async function stoppable(start, stop, error, work) {
  const control = new AbortController();
  start.disabled = true;
  busy(start, true);
  stop.disabled = false;
  error.textContent = "";
  stop.onclick = () => control.abort();
  try {
    await work(control.signal);
  } catch (problem) {
    if (problem.name !== "AbortError") error.textContent = problem.message;
  } finally {
    start.disabled = false;
    stop.disabled = true;
    busy(start, false);
  }
}

// Write
let conversation = "";
function say(text, kind) {
  const log = byId("chat-log");
  const last = log.lastElementChild;
  const span = last && last.className === kind ? last : log.appendChild(document.createElement("span"));
  span.className = kind;
  span.textContent += text;
  log.scrollTop = log.scrollHeight;
  conversation += text;
}
byId("chat-form").addEventListener("submit", event => {
  event.preventDefault();
  const text = byId("chat-text").value;
  stoppable(byId("chat-send"), byId("chat-stop"), byId("chat-error"), async signal => {
    say((conversation && text ? "\n" : "") + text, "typed");
    byId("chat-text").value = "";
    const asked = { text: conversation, temperature: Number(byId("temperature").value), max_tokens: 100 };
    await eachLine("/api/chat", asked, signal, piece => { if (piece.text) say(piece.text, "written"); });
  });
});
for (const example of byId("chat-examples").children) {
  example.addEventListener("click", () => {
    if (byId("chat-send").disabled) return;
    byId("chat-new").click();
    byId("chat-text").value = example.textContent;
    byId("chat-form").requestSubmit();
  });
}
byId("chat-new").addEventListener("click", () => {
  conversation = "";
  byId("chat-log").replaceChildren();
  byId("chat-error").textContent = "";
});

// See
let image = null;
let abilities = {};
async function send(address) {
  const response = await fetch(address, { method: "POST", body: image });
  if (!response.ok) await fail(response);
  return response.json();
}
async function take(file) {
  const error = byId("image-error");
  error.textContent = byId("caption").textContent = byId("image-notes").textContent = "";
  byId("answers").replaceChildren();
  byId("image").hidden = true;
  byId("ask-send").disabled = true;
  image = null;
  if (!file) return;
  if (file.size > MAX_UPLOAD) {
    error.textContent = `${file.name}: ${(file.size / 2 ** 20).toFixed(1)} MiB, expected at most 10 MiB; shrink it`;
    return;
  }
  image = file;
  busy(error, true);
  try {
    if (abilities.caption) {
      byId("caption").textContent = "...";
      const found = await send("/api/caption");
      byId("caption").textContent = found.caption;
      byId("image-notes").textContent = found.notes.join("; ");
    }
    const shown = byId("image");
    if (shown.src) URL.revokeObjectURL(shown.src);
    shown.src = URL.createObjectURL(file);
    shown.hidden = false;
    byId("ask-send").disabled = !abilities.question;
  } catch (problem) {
    byId("caption").textContent = "";
    error.textContent = problem.message;
    image = null;
  } finally {
    busy(error, false);
  }
}

// Three pictures to begin with, drawn here: nothing is fetched.
const SHAPES = {
  "a red circle": pen => { pen.fillStyle = "#d81e1e"; pen.beginPath(); pen.arc(32, 32, 17, 0, 7); pen.fill(); },
  "a blue rectangle": pen => { pen.fillStyle = "#1e40d8"; pen.fillRect(14, 20, 36, 24); },
  "a green triangle": pen => {
    pen.fillStyle = "#1e9c3a"; pen.beginPath(); pen.moveTo(32, 12); pen.lineTo(52, 50); pen.lineTo(12, 50); pen.fill();
  },
};
for (const [name, draw] of Object.entries(SHAPES)) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 64;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, 64, 64);
  draw(pen);
  const button = byId("image-examples").appendChild(document.createElement("button"));
  button.type = "button";
  const picture = button.appendChild(document.createElement("img"));
  picture.src = canvas.toDataURL();
  picture.alt = name;
  button.addEventListener("click", () => canvas.toBlob(blob => {
    byId("image-file").value = "";
    byId("question").value = "what color is the shape?";
    take(new File([blob], `${name}.png`, { type: "image/png" }));
  }));
}
byId("image-file").addEventListener("change", event => take(event.target.files[0]));
const drop = byId("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, event => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", event => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files[0]);
});
byId("ask-form").addEventListener("submit", async event => {
  event.preventDefault();
  const question = byId("question").value.trim();
  byId("image-error").textContent = "";
  if (!image || !question) return;
  byId("ask-send").disabled = true;
  busy(byId("question"), true);
  try {
    const found = await send("/api/answer?question=" + encodeURIComponent(question));
    const [term, text] = ["dt", "dd"].map(name => document.createElement(name));
    term.textContent = question;
    text.textContent = found.answer;
    byId("answers").append(term, text);
    byId("image-notes").textContent = found.notes.join("; ");
  } catch (problem) {
    byId("image-error").textContent = problem.message;
  } finally {
    byId("ask-send").disabled = false;
    busy(byId("question"), false);
  }
});

// Act
function show_likely(pairs) {
  byId("likely").replaceChildren(...pairs.map(([word, share]) => {
    const [line, name, track, bar, number] = ["li", "span", "span", "i", "b"].map(n => document.createElement(n));
    name.textContent = word;
    bar.style.width = `${Math.max(1, 100 * share)}%`;
    track.append(bar);
    number.textContent = `${Math.round(100 * share)} %`;
    line.append(name, track, number);
    return line;
  }));
}
byId("task").addEventListener("change", () => { byId("act-error").textContent = ""; });
byId("act-next").addEventListener("click", () => {
  byId("episode").value = Number(byId("episode").value) + 1;
  byId("act-form").requestSubmit();
});
byId("act-form").addEventListener("submit", event => {
  event.preventDefault();
  const asked = { task: byId("task").value, episode: Number(byId("episode").value) };
  byId("act-note").textContent = byId("figures").textContent = byId("told").textContent = "";
  byId("act-next").disabled = true;
  show_likely([]);
  let told = "";
  stoppable(byId("act-start"), byId("act-stop"), byId("act-error"), signal =>
    eachLine("/api/act", asked, signal, piece => {
      if (piece.frame) {
        byId("frame").src = piece.frame;
        byId("frame").hidden = false;
      }
      if (piece.step !== undefined) byId("figures").textContent = `step ${piece.step}, return ${piece.return}`;
      if (piece.instruction) told = piece.instruction;
      if (piece.likely) {
        show_likely(piece.likely);
        byId("told").textContent = piece.mission || told;
      }
      if (piece.starting) byId("figures").textContent = "starting";
      if (piece.started && !piece.primed) byId("act-note").textContent = "without a demonstration in its memory";
      if (piece.over) {
        const success = piece.success === null ? "" : piece.success ? ", success" : ", no success";
        byId("figures").textContent = `over after ${piece.step} steps, return ${piece.return}${success}`;
        if (piece.note) byId("act-note").textContent = piece.note;
      }
    })).finally(() => { byId("act-next").disabled = false; });
});

// What the run can do
function turnOff(name, text) {
  const section = byId(name).closest("section");
  section.classList.add("off");
  section.querySelector(".error").textContent = text;
  for (const control of section.querySelectorAll("button, input, textarea, select")) control.disabled = true;
}
(async () => {
  const response = await fetch("/api/about");
  abilities = await response.json();
  byId("about").textContent = abilities.run + (abilities.checkpoint ? `, ${abilities.checkpoint}` : "");
  if (!abilities.text) turnOff("chat-title", "This run never learned text.");
  if (!abilities.caption && !abilities.question) turnOff("image-title", "This run never learned images with text.");
  for (const task of abilities.tasks) {
    const option = byId("task").appendChild(document.createElement("option"));
    option.value = option.textContent = task.id;
    option.disabled = Boolean(task.missing);
    if (task.missing) option.title = task.missing;
  }
  for (const example of abilities.examples) {
    const button = byId("act-examples").appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = `${example.task}, episode ${example.episode}`;
    button.addEventListener("click", () => {
      if (byId("act-start").disabled) return;
      byId("task").value = example.task;
      byId("episode").value = example.episode;
      byId("act-form").requestSubmit();
    });
  }
  if (!abilities.tasks.some(task => !task.missing)) turnOff("act-title", "This run learned no task that runs here.");
  else byId("act-start").disabled = false;
  document.body.dataset.ready = "yes";
})().catch(() => { byId("about").textContent = "The server does not answer; start db1 demo again."; });
