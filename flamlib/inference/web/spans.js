// From scores to events and tables, without a page.
"use strict";

const GRACE_S = 1e-6; // as detection.py has it: three frames of 0.32 s are 0.96 s

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function floatsOf(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

// The events of a caption, as `detection.events_from_scores` finds them.
function spansOf(caption, threshold, data) {
  const { scores } = caption, n = scores.length;
  const on = Math.fround(threshold), off = Math.fround(caption.off_threshold ?? threshold);
  const low = Math.min(on, off);
  const edge = (frame) => (frame === n ? data.end_s : data.start_s + frame * data.frame_s);
  const joined = [];
  for (let start = 0; start < n; ) {
    if (!(scores[start] >= low)) { start += 1; continue; }
    let stop = start, peak = 0;
    for (; stop < n && scores[stop] >= low; stop += 1) peak = Math.max(peak, scores[stop]);
    const last = joined.at(-1);
    if (peak >= on) {
      if (last && edge(start) - edge(last.stop) <= data.merge_gap_s + GRACE_S) {
        last.stop = stop;
        last.score = Math.max(last.score, peak);
      } else joined.push({ start, stop, score: peak });
    }
    start = stop;
  }
  return joined
    .map(({ start, stop, score }) => ({ caption, onset: edge(start), offset: edge(stop), score }))
    .filter((e) => e.offset - e.onset >= (caption.min_duration_s ?? 0) - GRACE_S);
}

function keyOf(event) {
  return `${event.caption.number} ${event.onset} ${event.offset}`;
}

const short = (value) => String(Number(value.toFixed(6)));
const oneLine = (text) => text.replace(/[\t\r\n]+/g, " ");

// Each table has the events in order of onset; `answer` is "yes", "no" or "".
const tables = {
  tsv(data, events) {
    const rows = [["filename", "onset", "offset", "event_label", "score", "review"]];
    for (const e of events) {
      const score = String(Number(e.score.toPrecision(6)));
      rows.push([oneLine(data.name), short(e.onset), short(e.offset), e.caption.label, score, e.answer]);
    }
    return textOf(rows);
  },
  raven(data, events) {
    const rows = [["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)",
      "High Freq (Hz)", "Begin File", "Annotation", "Score", "Review"]];
    events.forEach((e, k) => rows.push([k + 1, "Spectrogram 1", data.channel, e.onset.toFixed(6),
      e.offset.toFixed(6), "0.0", (data.sample_rate / 2).toFixed(1), oneLine(data.name),
      e.caption.label, e.score.toFixed(4), e.answer]));
    return textOf(rows);
  },
  // Labels have no scores: with them, these would be detections that nobody has seen.
  audacity(data, events) {
    const reviewed = events.some((e) => e.answer);
    const rows = events.filter((e) => e.answer !== "no").map((e) => [e.onset.toFixed(6),
      e.offset.toFixed(6), e.caption.label + (reviewed ? "" : ` (${e.score.toFixed(2)})`)]);
    return textOf(rows);
  },
};

function textOf(rows) {
  return rows.map((row) => row.join("\t") + "\n").join("");
}
