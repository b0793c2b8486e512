// Asking a server: a recording is sent or chosen, and captions are asked of it.
let heard = null, isBusy = false;
const reviews = new Map(); // of recordings by id: what was decided, and the thresholds that were moved

async function call(path, options = {}) {
  const answer = await fetch(path, options).catch(() => null);
  if (!answer) throw new Error("No answer: is flam serve still running?");
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  throw new Error(told?.error?.message ?? `The server answers with ${answer.status}.`);
}

async function post(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  return (await call(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

function state(text, isWrong = false, where = "state") {
  byId(where).textContent = text;
  byId(where).classList.toggle("wrong", isWrong);
}

// One thing at a time; what goes wrong is told beside the button.
async function doing(text, work, where = "state") {
  if (isBusy) { mark(); return; }
  isBusy = true;
  for (const each of document.querySelectorAll("#state.wrong, #told.wrong")) state("", false, each.id);
  state(text, false, where);
  try { await work(); } catch (error) { state(error.message, true, where); }
  isBusy = false;
  mark();
}

// What is chosen beside the index is the recording that is shown.
function mark() {
  const chosen = [...byId("indexed").options].find((option) => option.value === heard?.recording);
  byId("indexed").value = chosen?.value ?? "";
  const hit = byId("hits").querySelector("[aria-current]");
  if (hit && hit.dataset.id !== heard?.recording) hit.removeAttribute("aria-current");
}

// A small screen shows what was asked, and not yet what was found.
function reveal() {
  const { top } = byId("result").getBoundingClientRect();
  if (top < 0.7 * innerHeight) return;
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  byId("result").scrollIntoView({ behavior });
}

const wantedCaptions = () => byId("wanted").value.split("\n").map((line) => line.trim()).filter(Boolean);

async function askCaptions() {
  const wanted = wantedCaptions();
  if (!heard) { state(wanted.length ? "Now drop or choose a recording." : "Drop or choose a recording first."); return; }
  const asking = () => post(`/api/recordings/${heard.id}/scores`, { captions: wanted });
  const { captions, note } = wanted.length ? await asking() : { captions: [] };
  const was = data?.id === heard.id ? { at: now(), view } : null;
  keep();
  show({ ...heard, captions });
  takeUp();
  if (was) { view = was.view; seek(was.at); }
  if (!captions.length) { state("Now type what you want to find."); byId("wanted").focus(); return; }
  const n = data.captions.reduce((sum, caption) => sum + caption.spans.length, 0);
  const isOwn = data.captions.every((caption) => caption.threshold === caption.own);
  const told = `${n === 1 ? "1 event" : `${n} events`} at ${isOwn ? "the model's own" : "your"} thresholds.`;
  state([told, note].filter(Boolean).join(" "));
  reveal();
}

// What was decided, and which thresholds were moved, stays with the recording and the caption, also
// while another recording is shown or the caption is not asked.
function keep() {
  if (!data?.id) return;
  const before = reviews.get(data.id) ?? { events: [], thresholds: new Map() };
  const asked = new Set(data.captions.map((caption) => caption.label));
  const events = before.events.filter((event) => !asked.has(event.caption.label));
  events.push(...decided.map((key) => decisions.get(key)));
  for (const { label, threshold, own } of data.captions) {
    if (threshold === own) before.thresholds.delete(label);
    else before.thresholds.set(label, threshold);
  }
  reviews.set(data.id, { events, thresholds: before.thresholds });
}

function takeUp() {
  const { events: kept, thresholds } = reviews.get(data.id) ?? { events: [], thresholds: new Map() };
  for (const caption of data.captions) {
    caption.slider.value = caption.threshold = thresholds.get(caption.label) ?? caption.own;
  }
  for (const event of kept) {
    const caption = data.captions.find((each) => each.label === event.caption.label);
    if (!caption) continue;
    const again = { ...event, caption };
    decisions.set(keyOf(again), again);
    decided.push(keyOf(again));
  }
  current = null;
  showAll();
  refresh();
}

async function open(found) {
  const sound = await (await call(`/api/recordings/${found.id}/audio`)).blob();
  audio.pause();
  heard = { ...found, sound };
  try { await askCaptions(); } catch (error) {
    keep();
    show({ ...heard, captions: [] });
    throw error;
  }
}

function send(file) {
  return doing(`Hearing ${file.name} …`, async () => {
    const { max_bytes: most } = given.server;
    if (file.size > most) throw new Error(`${file.name} has more than ${most / 1e6} MB, the most that is taken here.`);
    const path = `/api/recordings?name=${encodeURIComponent(file.name)}`;
    const headers = { "Content-Type": "application/octet-stream" };
    await open(await (await call(path, { method: "POST", headers, body: file })).json());
  });
}

function openIndexed(id, name, hit) {
  const told = byId("told").classList.contains("wrong") ? "" : byId("told").textContent;
  return doing(`Hearing ${name} …`, async () => {
    const found = await post(`/api/index/${id}?at=${hit?.onset ?? 0}`), wanted = wantedCaptions();
    if (hit && !wanted.includes(hit.caption)) byId("wanted").value = [hit.caption, ...wanted].join("\n");
    await open(found);
    if (hit) seek(hit.onset);
    state(told, false, "told");
  }, "told");
}

function searchIndex() {
  return doing("Searching …", async () => {
    const caption = byId("sentence").value.trim();
    if (!caption) { state("Type a sound to search for.", false, "told"); byId("sentence").focus(); return; }
    const { hits, note } = await post("/api/index/search", { caption });
    byId("hits").hidden = !hits.length;
    byId("hits").replaceChildren(...hits.map((hit) => {
      const item = made("li"), button = made("button", { type: "button", disabled: !hit.is_there });
      const name = hit.is_there ? hit.name : `${hit.name} (no longer there)`;
      const texts = [name, `${clock(hit.onset)} – ${clock(hit.offset)}`, hit.score.toFixed(2)];
      button.append(...texts.map((textContent) => made("span", { textContent })));
      button.dataset.id = hit.id;
      button.addEventListener("click", () => {
        byId("hits").querySelector("[aria-current]")?.removeAttribute("aria-current");
        button.setAttribute("aria-current", "true");
        openIndexed(hit.id, hit.name, hit);
      });
      item.append(button);
      return item;
    }));
    const told = hits.length === 1 ? "1 moment." : `${hits.length} moments, the surest first.`;
    state([hits.length ? told : "No moment sounds like that.", note].filter(Boolean).join(" "), false, "told");
  }, "told");
}

let lastListed = 0;

async function listIndex(name = "") {
  const listing = (lastListed += 1);
  const found = await (await call(`/api/index?name=${encodeURIComponent(name)}`)).json();
  if (listing !== lastListed) return; // more was typed since
  const { recordings, n_recordings: n } = found, isCut = recordings.length < n;
  if (isCut) byId("named").hidden = false;
  const told = n === 1 ? "1 recording" : `${n} recordings`;
  byId("indexed").replaceChildren(
    made("option", { value: "", textContent: isCut ? `${told}, the first ${recordings.length}` : told }),
    ...recordings.map((each) => made("option", { value: each.id, textContent: each.name })),
  );
}

function serve() {
  byId("ask").hidden = false;
  byId("about").textContent = `Find any sound that you can describe. Model: ${given.server.model}`;
  byId("file").addEventListener("change", () => { const [file] = byId("file").files; if (file) send(file); byId("file").value = ""; });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (e) => {
      e.preventDefault();
      byId("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop" && e.dataTransfer.files[0]) send(e.dataTransfer.files[0]);
    });
  }
  byId("asking").addEventListener("submit", (e) => { e.preventDefault(); doing("Asking …", askCaptions); });
  if (!given.server.has_index) return;
  byId("archive").hidden = false;
  byId("search").addEventListener("submit", (e) => { e.preventDefault(); searchIndex(); });
  byId("indexed").addEventListener("change", () => {
    const [option] = byId("indexed").selectedOptions;
    if (option.value) openIndexed(option.value, option.textContent);
  });
  const list = () => listIndex(byId("named").value).catch((error) => state(error.message, true, "told"));
  byId("named").addEventListener("input", list);
  list();
}

if (given.server) serve();
