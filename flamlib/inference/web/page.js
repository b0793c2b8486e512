// The page: drawing, playing, review. What counts as an event is said in spans.js.
const byId = (id) => document.getElementById(id);
const audio = byId("audio");
const CONTEXT_S = 1, MAX_LISTED = 500, SUFFIX = { tsv: ".review.tsv", raven: ".Table.1.selections.txt", audacity: ".txt" };
let data = null, events = [], decisions = new Map(), decided = [], later = [], current = null;
let view = [0, 1], stopAt = null, picture = null;
const unsaved = new Set(); // recordings' captions with decisions that were not downloaded
const now = () => data.start_s + audio.currentTime; // as all times, that of the recording
const isPart = () => data.start_s > 0 || data.end_s < data.duration_s - data.frame_s;
const nameOf = (caption) => `${data.id} ${caption.label}`;

function show(found) {
  data = found;
  data.captions.forEach((caption, number) => {
    Object.assign(caption, { number, own: caption.threshold, scores: floatsOf(caption.scores) });
  });
  [events, decisions, decided, later, current] = [[], new Map(), [], [], null];
  view = [data.start_s, data.end_s];
  document.title = byId("name").textContent = data.name;
  const captions = data.captions.length === 1 ? "1 caption" : `${data.captions.length} captions`;
  const part = `${clock(data.start_s)} – ${clock(data.end_s)} of `;
  const length = `${isPart() ? part : ""}${clock(data.duration_s)}`;
  byId("about").textContent = `${length} · ${captions} · ${data.model}`;
  say(data.note);
  byId("result").hidden = false;
  byId("result").classList.toggle("unasked", !data.captions.length);
  if (audio.src) URL.revokeObjectURL(audio.src);
  audio.src = URL.createObjectURL(data.sound ?? new Blob([bytesOf(data.audio)], { type: "audio/mpeg" }));
  byId("position").min = byId("from").min = data.start_s;
  byId("position").max = byId("from").max = data.end_s;
  picture = null;
  byId("lanes").replaceChildren(...data.captions.map(lane));
  showAll();
  refresh();
}

function say(text) {
  byId("note").hidden = !text;
  byId("note").textContent = text ?? "";
}

function lane(caption) {
  const row = made("div", { className: "row" });
  const head = made("div", { className: "head" });
  const id = `caption-${caption.number}`;
  const slider = made("input", { type: "range", min: 0, max: 1, step: "any", value: caption.threshold, id });
  slider.setAttribute("aria-label", `Threshold of ${caption.label}`);
  const label = made("label", { className: "caption", textContent: caption.label, htmlFor: id });
  const value = made("output"), count = made("span");
  const below = made("div", { className: "bar" });
  below.append(value, count);
  head.append(label, slider, below);
  const plot = made("div", { className: "plot" });
  const canvas = made("canvas", { className: "lane" });
  canvas.setAttribute("role", "img");
  plot.append(canvas);
  row.append(head, plot);
  slider.addEventListener("input", () => { caption.threshold = Number(slider.value); refresh(); });
  seeks(canvas);
  Object.assign(caption, { slider, value, count, canvas });
  return row;
}

function made(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

// Find the events anew, and show everything.
function refresh() {
  for (const caption of data.captions) {
    caption.spans = spansOf(caption, caption.threshold, data);
    caption.spans.forEach((e) => { e.answer = decisions.get(keyOf(e))?.answer ?? ""; });
    const n = caption.spans.length;
    caption.value.textContent = `at least ${caption.threshold.toFixed(2)}`;
    caption.count.textContent = n === 1 ? "1 event" : `${n} events`;
    caption.slider.setAttribute("aria-valuetext", `${caption.value.textContent}, ${caption.count.textContent}`);
    caption.canvas.setAttribute("aria-label", `Scores of ${caption.label}, ${caption.count.textContent}`);
  }
  // What was decided stays, also where a threshold has moved on.
  const found = new Map(decisions);
  for (const e of data.captions.flatMap((c) => c.spans)) found.set(keyOf(e), e);
  events = [...found.values()].sort((a, b) => a.onset - b.onset || a.offset - b.offset || a.caption.number - b.caption.number);
  if (!current || current.answer || !events.some((e) => keyOf(e) === keyOf(current))) current = next();
  else current = events.find((e) => keyOf(e) === keyOf(current));
  showReview();
  draw();
}

const margin = (event) => Math.abs(event.score - event.caption.threshold);

// The event to decide on: the least sure; those put off come last.
function next() {
  const open = events.filter((e) => !e.answer);
  const rank = (e) => later.indexOf(keyOf(e));
  return open.sort((a, b) => rank(a) - rank(b) || margin(a) - margin(b))[0] ?? null;
}

function decide(answer) {
  if (!current) return;
  const event = { ...current, answer };
  decisions.set(keyOf(event), event);
  decided = [...decided.filter((key) => key !== keyOf(event)), keyOf(event)];
  unsaved.add(nameOf(event.caption));
  current = null;
  refresh();
  if (current && byId("listen").checked) playEvent();
}

function undo() {
  const key = decided.pop();
  if (!key) return;
  const event = { ...decisions.get(key), answer: "" };
  decisions.delete(key);
  unsaved.add(nameOf(event.caption));
  refresh();
  select(events.find((e) => keyOf(e) === key) ?? current ?? event);
}

function putOff() {
  if (!current) return;
  const key = keyOf(current);
  later = [...later.filter((each) => each !== key), key];
  current = null;
  refresh();
  if (current && byId("listen").checked) playEvent();
}

function select(event) {
  current = event;
  if (event && (event.onset < view[0] || event.offset > view[1])) centre((event.onset + event.offset) / 2);
  showReview();
  draw();
}

function playEvent() {
  if (!current) return;
  select(current);
  seek(current.onset - CONTEXT_S);
  stopAt = Math.min(data.end_s, current.offset + CONTEXT_S);
  audio.play().catch(() => {});
}

function showReview() {
  const n = events.filter((e) => e.answer).length;
  byId("progress").textContent = `${n} of ${events.length} decided`;
  const text = byId("current");
  text.replaceChildren();
  if (current) {
    const times = `${clock(current.onset)} – ${clock(current.offset)} · score ${current.score.toFixed(2)}`;
    text.append(current.answer ? "" : "Is this “", current.caption.label, current.answer ? ` (${current.answer})` : "”?", " ", made("small", { textContent: times }));
  } else text.textContent = events.length ? "Every event is decided." : "No event at these thresholds.";
  for (const id of ["yes", "no", "again", "skip"]) byId(id).disabled = !current;
  byId("undo").disabled = !decided.length;
  const listed = events.slice(0, MAX_LISTED).map((event) => {
    const button = made("button", { type: "button" });
    const answer = made("span", { textContent: { yes: "confirmed", no: "rejected" }[event.answer] ?? "", className: event.answer && `is-${event.answer}` });
    const times = `${clock(event.onset)} – ${clock(event.offset)}`;
    button.append(...[times, event.caption.label, event.score.toFixed(2)].map((t) => made("span", { textContent: t })), answer);
    if (current && keyOf(current) === keyOf(event)) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => { select(event); seek(event.onset); });
    const item = made("li");
    item.append(button);
    return item;
  });
  const list = byId("events"), hadFocus = list.contains(document.activeElement);
  list.replaceChildren(...listed);
  const row = list.querySelector("[aria-current]");
  if (row && hadFocus) row.focus();
  if (row && list.parentElement.open) {
    // The list alone moves, not the page.
    const hidden = row.getBoundingClientRect(), box = list.getBoundingClientRect();
    list.scrollTop += Math.max(0, hidden.bottom - box.bottom) + Math.min(0, hidden.top - box.top);
  }
  byId("more").hidden = events.length <= MAX_LISTED;
  byId("more").textContent = `The first ${MAX_LISTED} of ${events.length} are listed.`;
}

function clock(seconds) {
  const tenths = Math.round(seconds * 10), minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

// Drawing

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function context(canvas) {
  const ratio = window.devicePixelRatio || 1, { clientWidth: w, clientHeight: h } = canvas;
  if (canvas.width !== Math.round(w * ratio)) canvas.width = Math.round(w * ratio);
  if (canvas.height !== Math.round(h * ratio)) canvas.height = Math.round(h * ratio);
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, w, h);
  return { c, w, h, x: (s) => ((s - view[0]) / (view[1] - view[0])) * w };
}

function draw() {
  if (!data) return;
  drawSpectrogram();
  data.captions.forEach(drawLane);
  drawAxis();
  showPosition();
  const isZoomed = view[1] - view[0] < data.end_s - data.start_s - 1e-9;
  byId("pan").hidden = !isZoomed;
  byId("from").max = data.end_s - (view[1] - view[0]);
  byId("from").value = view[0];
  byId("wider").disabled = !isZoomed;
}

const DARK = [[20, 22, 26], [45, 36, 90], [130, 50, 120], [225, 95, 95], [252, 225, 170]];
const LIGHT = [[250, 249, 246], [205, 217, 234], [120, 155, 205], [50, 85, 150], [24, 28, 60]];

function drawSpectrogram() {
  const { c, w, h, x } = context(byId("spectrogram"));
  picture ??= painted(matchMedia("(prefers-color-scheme: dark)").matches ? DARK : LIGHT);
  c.drawImage(picture, x(data.start_s), 0, x(data.end_s) - x(data.start_s), h);
  if (current) {
    c.fillStyle = c.strokeStyle = colour("accent");
    c.globalAlpha = 0.16;
    c.fillRect(x(current.onset), 0, x(current.offset) - x(current.onset), h);
    c.globalAlpha = 1;
    c.strokeRect(x(current.onset), 0.5, x(current.offset) - x(current.onset), h - 1);
  }
  c.font = "11px system-ui, sans-serif";
  const mel = (hz) => 2595 * Math.log10(1 + hz / 700), { low_hz, high_hz } = data.spectrogram;
  for (const hz of [500, 2000, 6000].filter((each) => each < high_hz)) {
    const y = h * (1 - (mel(hz) - mel(low_hz)) / (mel(high_hz) - mel(low_hz)));
    tag(c, `${hz / 1000} kHz`, 4, y, w);
  }
  drawCursor(c, x, h);
}

function tag(c, text, left, y) {
  c.globalAlpha = 0.75;
  c.fillStyle = colour("card");
  c.fillRect(left, y - 7, c.measureText(text).width + 8, 14);
  c.globalAlpha = 1;
  c.fillStyle = colour("ink");
  c.textBaseline = "middle";
  c.fillText(text, left + 4, y);
}

function painted(stops) {
  const { columns, bands, levels } = data.spectrogram, bytes = bytesOf(levels);
  const canvas = made("canvas", { width: columns, height: bands });
  const c = canvas.getContext("2d"), image = c.createImageData(columns, bands);
  for (let column = 0; column < columns; column += 1) {
    for (let band = 0; band < bands; band += 1) {
      const level = (bytes[column * bands + band] / 255) * (stops.length - 1);
      const k = Math.min(Math.floor(level), stops.length - 2), part = level - k;
      const at = ((bands - 1 - band) * columns + column) * 4;
      for (let i = 0; i < 3; i += 1) image.data[at + i] = stops[k][i] * (1 - part) + stops[k + 1][i] * part;
      image.data[at + 3] = 255;
    }
  }
  c.putImageData(image, 0, 0);
  return canvas;
}

function drawLane(caption) {
  const { c, w, h, x } = context(caption.canvas), foot = h - 13, y = (score) => foot - score * (foot - 3);
  const frameAt = (s) => (s - data.start_s) / data.frame_s, timeOf = (frame) => data.start_s + frame * data.frame_s;
  const first = Math.max(0, Math.floor(frameAt(view[0])));
  const stop = Math.min(caption.scores.length, Math.ceil(frameAt(view[1])) + 1);
  c.beginPath();
  c.moveTo(x(timeOf(first)), foot);
  // Of frames narrower than a pixel, the highest.
  const step = Math.max(1, Math.floor((stop - first) / (2 * w)));
  for (let frame = first; frame < stop; frame += step) {
    let top = 0;
    for (let k = frame; k < Math.min(frame + step, stop); k += 1) top = Math.max(top, caption.scores[k]);
    const right = Math.min(timeOf(frame + step), data.end_s);
    c.lineTo(x(timeOf(frame)), y(top));
    c.lineTo(x(right), y(top));
  }
  c.lineTo(x(Math.min(timeOf(stop), data.end_s)), foot);
  c.fillStyle = colour("fill");
  c.fill();
  c.strokeStyle = colour("accent");
  c.lineWidth = 1;
  c.stroke();
  c.strokeStyle = colour("soft");
  c.setLineDash([4, 4]);
  c.beginPath();
  c.moveTo(0, y(caption.threshold));
  c.lineTo(w, y(caption.threshold));
  c.stroke();
  c.setLineDash([]);
  for (const e of events.filter((each) => each.caption === caption)) {
    const left = x(e.onset), wide = Math.max(2, x(e.offset) - left);
    c.fillStyle = colour(e.answer || "accent");
    if (e.answer === "no") { c.strokeStyle = colour("no"); c.strokeRect(left + 0.5, foot + 4.5, wide - 1, 6); } // hollow: told without colour
    else c.fillRect(left, foot + 4, wide, 7);
    if (current && keyOf(current) === keyOf(e)) {
      c.strokeStyle = colour("accent");
      c.strokeRect(left - 1.5, 1.5, wide + 3, h - 3);
    }
  }
  drawCursor(c, x, h);
}

function drawCursor(c, x, h) {
  c.fillStyle = colour("ink");
  c.fillRect(x(now()) - 0.75, 0, 1.5, h);
}

function drawAxis() {
  const { c, w, x } = context(byId("axis")), length = view[1] - view[0];
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
  const step = steps.find((each) => (each / length) * w > 64) ?? 1200;
  c.font = "12px system-ui, sans-serif";
  c.textBaseline = "top";
  c.textAlign = "center";
  c.fillStyle = c.strokeStyle = colour("soft");
  for (let k = Math.ceil(view[0] / step); k * step <= view[1] + 1e-9; k += 1) {
    const at = x(k * step), text = step < 1 ? `${(k * step).toFixed(1)} s` : clock(k * step).replace(/\.0$/, "");
    c.fillRect(at, 0, 1, 4);
    const half = c.measureText(text).width / 2;
    c.fillText(text, Math.min(Math.max(at, half), w - half), 7);
  }
}

// Playing

function seek(seconds) {
  stopAt = null;
  audio.currentTime = Math.min(Math.max(data.start_s, seconds), data.end_s) - data.start_s;
  if (now() < view[0] || now() > view[1]) centre(now());
  draw();
}

function seeks(canvas) {
  const go = (e) => {
    const box = canvas.getBoundingClientRect();
    seek(view[0] + ((e.clientX - box.left) / box.width) * (view[1] - view[0]));
  };
  canvas.addEventListener("click", go);
  canvas.addEventListener("pointermove", (e) => { if (e.pointerType === "mouse" && e.buttons === 1) go(e); });
}

function toggle() {
  stopAt = null;
  if (audio.paused) audio.play().catch(() => {});
  else audio.pause();
}

function showPosition() {
  byId("position").value = now();
  byId("position").setAttribute("aria-valuetext", clock(now()));
  byId("clock").textContent = `${clock(now())} / ${clock(data.end_s)}`;
}

function follow() {
  if (audio.paused) return;
  if (stopAt !== null && now() >= stopAt) { audio.pause(); stopAt = null; }
  if (now() > view[1]) pan(now());
  draw();
  requestAnimationFrame(follow);
}

function pan(start) {
  const length = view[1] - view[0], from = Math.min(Math.max(data.start_s, start), data.end_s - length);
  view = [from, from + length];
}

function centre(middle) {
  pan(middle - (view[1] - view[0]) / 2);
}

function zoom(factor) {
  const inView = now() >= view[0] && now() <= view[1];
  const middle = inView ? now() : (view[0] + view[1]) / 2;
  const length = Math.min(data.end_s - data.start_s, Math.max(4 * data.frame_s, (view[1] - view[0]) * factor));
  view = [data.start_s, data.start_s + length];
  centre(middle);
  draw();
}

// Thresholds of all captions, downloads, keys

function showAll(value) {
  const own = value === undefined;
  byId("all").value = value ?? data.captions.reduce((sum, c) => sum + c.threshold, 0) / Math.max(1, data.captions.length);
  byId("all-value").textContent = own ? "each its own" : `at least ${value.toFixed(2)}`;
}

function setAll(thresholdOf) {
  for (const caption of data.captions) caption.slider.value = caption.threshold = thresholdOf(caption);
  refresh();
}

function download(kind) {
  const link = made("a", { download: data.name.replace(/^.*[\\/]/, "").replace(/\.[^.]*$/, "") + SUFFIX[kind] });
  link.href = URL.createObjectURL(new Blob([tables[kind](data, events)], { type: "text/plain" }));
  link.click();
  for (const caption of data.captions) unsaved.delete(nameOf(caption));
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const acts = {
  play: toggle, closer: () => zoom(0.5), wider: () => zoom(2), yes: () => decide("yes"),
  no: () => decide("no"), undo, again: playEvent, skip: putOff, tsv: () => download("tsv"),
  raven: () => download("raven"), audacity: () => download("audacity"),
  own: () => { setAll((c) => c.own); showAll(); },
};
for (const [id, act] of Object.entries(acts)) byId(id).addEventListener("click", act);
byId("all").addEventListener("input", (e) => {
  const value = Number(e.target.value);
  setAll(() => value);
  showAll(value);
});
byId("position").addEventListener("input", (e) => seek(Number(e.target.value)));
byId("from").addEventListener("input", (e) => { pan(Number(e.target.value)); draw(); });
seeks(byId("spectrogram"));
const keys = {
  y: acts.yes, n: acts.no, u: undo, p: playEvent, l: putOff, " ": toggle, "+": acts.closer,
  "-": acts.wider, ArrowLeft: () => seek(now() - 1), ArrowRight: () => seek(now() + 1),
};
document.addEventListener("keydown", (e) => {
  const act = keys[e.key.length === 1 ? e.key.toLowerCase() : e.key];
  if (!data || !act || e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.target.matches("textarea, select, input:not([type=range], [type=checkbox])")) return;
  if (e.key.startsWith("Arrow") && e.target.matches("input")) return;
  if (e.key === " " && e.target.matches("button, summary, input")) return;
  e.preventDefault();
  act();
});
audio.addEventListener("play", () => requestAnimationFrame(follow));
audio.addEventListener("pause", draw);
// Another sound in the player ends the one before without a pause.
for (const kind of ["play", "pause", "emptied"]) audio.addEventListener(kind, () => { byId("play").textContent = audio.paused ? "Play" : "Pause"; });
audio.addEventListener("seeked", draw);
window.addEventListener("resize", draw);
window.addEventListener("beforeunload", (e) => { if (unsaved.size) e.preventDefault(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { picture = null; draw(); });

const given = JSON.parse(byId("data").textContent);
if (given.captions) show(given);
