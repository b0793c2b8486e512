// Asking a server: a recording is sent or chosen, and captions are asked of it.
let heard = null, isBusy = false;

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
  if (isBusy) return;
  isBusy = true;
  for (const each of document.querySelectorAll("#state.wrong, #told.wrong")) state("", false, each.id);
  state(text, false, where);
  try { await work(); } catch (error) { state(error.message, true, where); }
  isBusy = false;
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
  const isSame = data?.id === heard.id, kept = isSame ? [...decisions.values()] : [], order = decided;
  const was = isSame ? { at: audio.currentTime, view } : null;
  show({ ...heard, captions });
  if (isSame) keep(kept, order);
  if (was) { view = was.view; seek(was.at); }
  if (!captions.length) { state("Now type what you want to find."); byId("wanted").focus(); return; }
  const n = events.length === 1 ? "1 event" : `${events.length} events`;
  state([`${n} at the model's own thresholds.`, note].filter(Boolean).join(" "));
  reveal();
}

// What was decided of captions that are asked again stays decided.
function keep(kept, order) {
  const moved = new Map();
  for (const event of kept) {
    const caption = data.captions.find((each) => each.label === event.caption.label);
    if (!caption) continue;
    const again = { ...event, caption };
    moved.set(keyOf(event), keyOf(again));
    decisions.set(keyOf(again), again);
  }
  decided = order.filter((key) => moved.has(key)).map((key) => moved.get(key));
  current = null;
  refresh();
}

async function open(found) {
  const sound = await (await call(`/api/recordings/${found.id}/audio`)).blob();
  audio.pause();
  heard = { ...found, sound };
  await askCaptions();
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
  return doing(`Hearing ${name} …`, async () => {
    const wanted = wantedCaptions();
    if (hit && !wanted.includes(hit.caption)) byId("wanted").value = [hit.caption, ...wanted].join("\n");
    await open(await post(`/api/index/${id}`));
    if (hit) seek(hit.onset);
  });
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
