"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const overview = document.getElementById("overview"), detail = document.getElementById("detail");
const tip = document.getElementById("tip");
const OUTCOMES = ["ok", "outcome unknown", "refused"];
const LEFT = 150, HEAD = 24, LANE = 15, FAULT = 14;
const ID = 0, OF = 1, START = 2, TOOK = 3, KIND = 4, MEMBER = 5, OUTCOME = 6;

const blamed = new Set(data.violations.flatMap(v => v.operations));
const byId = new Map(data.operations.map(o => [o[ID], o]));
const lanes = data.lanes.map(() => []);
for (const o of data.operations) lanes[o[OF]].push(o);
// The longest of a lane tells how far back something may begin that is still visible.
const longest = lanes.map(lane => lane.reduce((most, o) => Math.max(most, o[TOOK]), 0));

// Faults that overlap go below each other.
const faultRows = [];
for (const fault of data.faults) {
  fault.until = fault.end ?? data.end;
  let row = faultRows.findIndex(end => end <= fault.start);
  if (row < 0) row = faultRows.push(0) - 1;
  faultRows[row] = fault.until;
  fault.row = row;
}
const watchers = [...new Set(data.watches.map(w => w.watcher))];
const FAULTS_AT = HEAD + LANE + 4;
const WATCHES_AT = FAULTS_AT + Math.max(1, faultRows.length) * FAULT + 6;
const LANES_AT = WATCHES_AT + watchers.length * LANE + (watchers.length ? 6 : 0);
const HEIGHT = LANES_AT + lanes.length * LANE + 8;

let from = 0, to = data.end, chosen = -1, single = null;
const colour = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
let colours = {};
const fresh = () => {
  for (const name of ["ok", "unknown", "refused", "fault", "blame", "ink", "soft", "line", "band", "card"]) colours[name] = colour(name);
  colours.outcomes = [colours.ok, colours.unknown, colours.refused];
};

const seconds = (micros, step) => {
  const digits = step >= 1e6 ? 0 : step >= 1e5 ? 1 : step >= 1e4 ? 2 : step >= 1e3 ? 3 : 6;
  return (micros / 1e6).toFixed(digits) + " s";
};
const took = micros => micros < 1e3 ? micros + " µs" : micros < 1e6 ? (micros / 1e3).toFixed(1) + " ms" : (micros / 1e6).toFixed(2) + " s";

function canvas(element, height) {
  const ratio = window.devicePixelRatio || 1, width = element.clientWidth;
  element.style.height = height + "px";
  element.width = width * ratio;
  element.height = height * ratio;
  const c = element.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  c.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  c.textBaseline = "middle";
  return [c, width];
}

function drawOverview() {
  const height = 96, [c, width] = canvas(overview, height), bottom = height - 14;
  const x = micros => micros / data.end * width;
  c.globalAlpha = 0.22;
  c.fillStyle = colours.fault;
  for (const fault of data.faults) c.fillRect(x(fault.start), 0, Math.max(1, x(fault.until) - x(fault.start)), bottom);
  c.globalAlpha = 1;
  const most = Math.max(1, ...data.bins.map(bin => bin[0] + bin[1] + bin[2]));
  const wide = width / data.bins.length;
  data.bins.forEach((bin, i) => {
    let y = bottom;
    bin.forEach((count, outcome) => {
      const tall = count && Math.max(1, count / most * (bottom - 12));
      c.fillStyle = colours.outcomes[outcome];
      c.fillRect(i * wide, y - tall, Math.max(1, wide - 0.3), tall);
      y -= tall;
    });
  });
  data.violations.forEach((violation, i) => {
    c.fillStyle = colours.blame;
    const at = x(violation.at), size = i === chosen ? 7 : 5;
    c.fillRect(at - 0.5, 0, i === chosen ? 2 : 1, bottom);
    c.beginPath(); c.moveTo(at - size, 0); c.lineTo(at + size, 0); c.lineTo(at, size * 1.6); c.fill();
  });
  c.fillStyle = colours.ink;
  c.globalAlpha = 0.12;
  c.fillRect(0, 0, x(from), bottom);
  c.fillRect(x(to), 0, width - x(to), bottom);
  c.globalAlpha = 1;
  c.strokeStyle = colours.ink;
  c.strokeRect(x(from) + 0.5, 0.5, Math.max(2, x(to) - x(from) - 1), bottom - 1);
  ticks(c, 0, data.end, 0, width, height - 7, null);
}

function ticks(c, start, end, left, right, y, line) {
  const rough = (end - start) / ((right - left) / 110), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(n => n * power).find(step => step >= rough);
  c.fillStyle = colours.soft;
  c.textAlign = "center";
  for (let at = Math.ceil(start / step) * step; at <= end; at += step) {
    const x = left + (at - start) / (end - start) * (right - left);
    if (line) { c.fillStyle = colours.line; c.fillRect(x, line[0], 1, line[1]); c.fillStyle = colours.soft; }
    const text = seconds(at, step), half = c.measureText(text).width / 2;
    if (x - half >= left && x + half <= right) c.fillText(text, x, y);
  }
  c.textAlign = "left";
}

function visible(lane, i) {
  let low = 0, high = lane.length;
  const first = from - longest[i];
  while (low < high) { const middle = (low + high) >> 1; lane[middle][START] < first ? low = middle + 1 : high = middle; }
  return low;
}

function drawDetail() {
  const [c, width] = canvas(detail, HEIGHT);
  const scale = (width - LEFT) / (to - from), x = micros => LEFT + (micros - from) * scale;
  // Names of workloads, and a band for every second one.
  let last = null, band = 0;
  data.lanes.forEach((lane, i) => {
    const y = LANES_AT + i * LANE;
    if (lane.workload !== last) { last = lane.workload; band++; }
    if (band % 2) { c.fillStyle = colours.band; c.fillRect(0, y, width, LANE); }
  });
  ticks(c, from, to, LEFT, width, HEAD / 2, [HEAD, HEIGHT]);
  c.save();
  c.beginPath(); c.rect(LEFT, 0, width - LEFT, HEIGHT); c.clip();
  drawLeaders(c, x, width);
  for (const fault of data.faults) {
    const a = x(fault.start), b = x(fault.until), y = FAULTS_AT + fault.row * FAULT;
    if (b < LEFT || a > width) continue;
    c.globalAlpha = 0.07; c.fillStyle = colours.fault; c.fillRect(a, LANES_AT, Math.max(1, b - a), HEIGHT);
    c.globalAlpha = 1; c.fillRect(a, y, Math.max(2, b - a), FAULT - 2);
    const text = fault.name + (fault.members.length ? " m" + fault.members.join(" m") : "");
    if (b - a > c.measureText(text).width + 8) { c.fillStyle = colours.card; c.fillText(text, Math.max(a, LEFT) + 4, y + FAULT / 2 - 1); }
  }
  for (const watch of data.watches) {
    const y = WATCHES_AT + watchers.indexOf(watch.watcher) * LANE;
    c.strokeStyle = colours.blame; c.globalAlpha = 0.7;
    c.strokeRect(x(watch.start), y + 4.5, Math.max(2, (watch.end - watch.start) * scale), LANE - 9);
    c.globalAlpha = 1;
  }
  lanes.forEach((lane, i) => {
    const y = LANES_AT + i * LANE, drawn = [-1, -1, -1];
    for (let n = visible(lane, i); n < lane.length && lane[n][START] <= to; n++) {
      const o = lane[n], a = x(o[START]), b = a + o[TOOK] * scale, pixel = Math.floor(b);
      // What would fall on the same pixel as its neighbour need not be drawn again.
      if (b < LEFT || (b - a < 1 && drawn[o[OUTCOME]] === pixel)) continue;
      drawn[o[OUTCOME]] = pixel;
      c.fillStyle = colours.outcomes[o[OUTCOME]];
      c.fillRect(a, y + 3, Math.max(1.2, b - a - (b - a > 3 ? 0.6 : 0)), LANE - 6);
    }
  });
  drawBlame(c, x, scale);
  c.restore();
  c.fillStyle = colours.card; c.globalAlpha = 0.85; c.fillRect(0, 0, LEFT - 1, LANES_AT); c.globalAlpha = 1;
  c.fillStyle = colours.soft;
  c.fillText("leader", 8, HEAD + LANE / 2);
  c.fillText(data.faults.length ? "faults" : "no faults", 8, FAULTS_AT + FAULT / 2 - 1);
  watchers.forEach((name, i) => c.fillText("watch " + name, 8, WATCHES_AT + i * LANE + LANE / 2, LEFT - 12));
  last = null;
  data.lanes.forEach((lane, i) => {
    const y = LANES_AT + i * LANE + LANE / 2;
    c.fillStyle = colours.ink;
    if (lane.workload !== last) { last = lane.workload; c.fillText(lane.workload, 8, y); }
    c.fillStyle = colours.soft;
    c.textAlign = "right"; c.fillText(lane.client, LEFT - 8, y); c.textAlign = "left";
  });
}

function drawLeaders(c, x, width) {
  data.leaders.forEach(([at, member, term], i) => {
    const a = x(at), b = x(i + 1 < data.leaders.length ? data.leaders[i + 1][0] : data.end);
    if (b < LEFT || a > width || !member) return;
    c.fillStyle = colours.ok; c.globalAlpha = 0.18 + 0.16 * (member % 4); c.fillRect(a, HEAD + 1, Math.max(1, b - a - 1), LANE - 3);
    c.globalAlpha = 1;
    const text = "m" + member + (b - a > 90 ? " · term " + term : "");
    if (b - a > c.measureText(text).width + 8) { c.fillStyle = colours.ink; c.fillText(text, Math.max(a, LEFT) + 4, HEAD + LANE / 2 - 0.5); }
  });
}

function drawBlame(c, x, scale) {
  const focus = chosen >= 0 ? new Set(data.violations[chosen].operations) : blamed;
  const middle = o => [x(o[START] + o[TOOK] / 2), LANES_AT + o[OF] * LANE + LANE / 2];
  for (const id of blamed) {
    const o = byId.get(id);
    if (!o) continue;
    const y = LANES_AT + o[OF] * LANE;
    c.strokeStyle = colours.blame;
    c.globalAlpha = focus.has(id) ? 1 : 0.35;
    c.lineWidth = focus.has(id) ? 2 : 1;
    c.strokeRect(x(o[START]) - 1.5, y + 1.5, Math.max(5, o[TOOK] * scale + 3), LANE - 3);
  }
  c.globalAlpha = 1;
  if (chosen >= 0) {
    const violation = data.violations[chosen], on = violation.operations.map(id => byId.get(id)).filter(Boolean);
    c.lineWidth = 1.2; c.strokeStyle = colours.blame; c.setLineDash([4, 3]);
    c.beginPath();
    on.forEach((o, i) => i ? c.lineTo(...middle(o)) : c.moveTo(...middle(o)));
    c.stroke();
    c.beginPath(); c.moveTo(x(violation.at), HEAD); c.lineTo(x(violation.at), HEIGHT); c.globalAlpha = 0.5; c.stroke();
    c.globalAlpha = 1; c.setLineDash([]);
    const taken = [];
    on.slice(0, 6).forEach(o => label(c, x, o, taken));
  }
  if (single !== null && byId.has(single)) {
    const o = byId.get(single), [at, y] = middle(o);
    c.lineWidth = 2; c.strokeStyle = colours.ink; c.beginPath(); c.arc(at, y, 11, 0, 7); c.stroke();
  }
  c.lineWidth = 1;
}

// Beside its operation, or as near above or below it as there is room.
function label(c, x, o, taken) {
  const text = "" + o[ID] + " " + (data.words[o[ID]] ?? data.kinds[o[KIND]]), cut = text.length > 72 ? text.slice(0, 71) + "…" : text;
  const wide = c.measureText(cut).width + 8, end = x(o[START] + o[TOOK]);
  const at = Math.max(LEFT, Math.min(end + 8, detail.clientWidth - wide)), own = LANES_AT + o[OF] * LANE;
  const covers = end + 4 > at;
  const free = y => y >= LANES_AT && !(covers && y === own) && !taken.some(t => t.y === y && t.at < at + wide && at < t.at + t.wide);
  const y = [0, 1, -1, 2, -2, 3, -3, 4].map(by => own + by * LANE).find(free) ?? own;
  taken.push({ y, at, wide });
  c.fillStyle = colours.card; c.globalAlpha = 0.92; c.fillRect(at, y, wide, LANE);
  c.globalAlpha = 1; c.fillStyle = colours.blame; c.fillText(cut, at + 4, y + LANE / 2);
}

let waiting = false;
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; fresh(); drawOverview(); drawDetail(); });
}

function show(a, b) {
  const least = 200, span = Math.min(data.end, Math.max(least, b - a));
  from = Math.max(0, Math.min(a, data.end - span));
  to = from + span;
  draw();
}

function choose(number, scroll) {
  chosen = number; single = null;
  document.querySelectorAll("[data-violation]").forEach(item => item.classList.toggle("chosen", +item.dataset.violation === number));
  const violation = data.violations[number], on = violation.operations.map(id => byId.get(id)).filter(Boolean);
  const watched = data.watches.filter(w => violation.watches.includes(w.id));
  let a = Math.min(violation.at, ...on.map(o => o[START])), b = Math.max(violation.at, ...on.map(o => o[START] + o[TOOK]));
  if (!on.length && watched.length) { a = violation.at - 2e5; b = violation.at + 2e5; }
  const margin = Math.max(2000, (b - a) * 0.25);
  show(a - margin, b + margin);
  const box = document.getElementById("lanes"), lane = on.length ? Math.min(...on.map(o => o[OF])) : 0;
  box.scrollTop = Math.max(0, LANES_AT + lane * LANE - 120);
  if (scroll) document.getElementById("timeline").scrollIntoView({ behavior: "smooth" });
}

const timeAt = event => from + (event.offsetX - LEFT) / (detail.clientWidth - LEFT) * (to - from);
const zoom = (at, factor) => show(at - (at - from) * factor, at + (to - at) * factor);
detail.addEventListener("wheel", event => {
  // Without a modifier, a vertical wheel over the names scrolls the lanes.
  if (event.offsetX < LEFT) return;
  event.preventDefault();
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) show(from + event.deltaX * (to - from) / 1500, to + event.deltaX * (to - from) / 1500);
  else zoom(timeAt(event), Math.exp(event.deltaY * 0.0015));
}, { passive: false });
let held = null;
detail.addEventListener("pointerdown", event => { held = { x: event.clientX, from, to }; detail.setPointerCapture(event.pointerId); });
detail.addEventListener("pointerup", () => held = null);
detail.addEventListener("pointermove", event => {
  if (held) {
    const by = (event.clientX - held.x) / (detail.clientWidth - LEFT) * (held.to - held.from);
    show(held.from - by, held.to - by);
  }
  point(event);
});
detail.addEventListener("pointerleave", () => tip.hidden = true);
detail.addEventListener("dblclick", () => show(0, data.end));
let brush = null;
const overviewTime = event => Math.max(0, Math.min(1, event.offsetX / overview.clientWidth)) * data.end;
overview.addEventListener("pointerdown", event => { brush = overviewTime(event); overview.setPointerCapture(event.pointerId); });
overview.addEventListener("pointermove", event => {
  if (brush !== null && Math.abs(overviewTime(event) - brush) > data.end / 300) show(Math.min(brush, overviewTime(event)), Math.max(brush, overviewTime(event)));
});
overview.addEventListener("pointerup", event => {
  const at = overviewTime(event), span = to - from;
  if (Math.abs(at - brush) <= data.end / 300 && span < data.end) show(at - span / 2, at + span / 2);
  brush = null;
});
overview.addEventListener("dblclick", () => show(0, data.end));
document.getElementById("closer").onclick = () => zoom((from + to) / 2, 0.5);
document.getElementById("wider").onclick = () => zoom((from + to) / 2, 2);
document.getElementById("whole").onclick = () => show(0, data.end);

function under(event) {
  const at = timeAt(event), slack = (to - from) / (detail.clientWidth - LEFT) * 3;
  const y = event.offsetY;
  if (event.offsetX < LEFT) return null;
  if (y >= LANES_AT) {
    const i = Math.floor((y - LANES_AT) / LANE), lane = lanes[i];
    if (!lane) return null;
    let best = null, distance = slack;
    for (let n = visible(lane, i); n < lane.length && lane[n][START] <= at + slack; n++) {
      const o = lane[n], off = Math.max(0, o[START] - at, at - o[START] - o[TOOK]) - (blamed.has(o[ID]) ? 1 : 0);
      if (off < distance) { best = o; distance = off; }
    }
    if (!best) return null;
    const words = data.words[best[ID]] ?? data.kinds[best[KIND]] + ", " + OUTCOMES[best[OUTCOME]] + `\n(the rest: grep '"id":${best[ID]},' history.jsonl)`;
    return `operation ${best[ID]} · client ${data.lanes[i].client} at m${best[MEMBER]} · ${seconds(best[START], 1)} + ${took(best[TOOK])}\n${words}`;
  }
  const fault = data.faults.find(f => at >= f.start - slack && at <= f.until + slack && Math.floor((y - FAULTS_AT) / FAULT) === f.row);
  if (fault) return `${fault.name}${fault.members.map(m => " m" + m).join("")}\n${fault.detail}\n${seconds(fault.start, 1e3)} to ${fault.end === null ? "the end: never healed" : seconds(fault.end, 1e3)}`;
  if (y > HEAD && y < HEAD + LANE) {
    const leader = data.leaders.filter(l => l[0] <= at).pop();
    if (leader) return leader[1] ? `m${leader[1]} leads, term ${leader[2]}` : "no leader is known";
  }
  return null;
}

function point(event) {
  const text = under(event);
  tip.hidden = !text || !!held && Math.abs(held.x - event.clientX) > 3;
  if (tip.hidden) return;
  tip.textContent = text;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.min(event.clientX + 14, innerWidth - box.width - 8) + "px";
  tip.style.top = (event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18) + "px";
}

document.querySelectorAll("[data-violation]").forEach(item => {
  const go = () => choose(+item.dataset.violation, true);
  item.addEventListener("click", event => {
    const id = event.target.dataset?.operation;
    if (!id) return go();
    choose(+item.dataset.violation, true);
    single = +id;
    const o = byId.get(single), margin = o && Math.max(5000, o[TOOK] * 2);
    if (o) show(o[START] - margin, o[START] + o[TOOK] + margin);
  });
  item.addEventListener("keydown", event => { if (event.key === "Enter") go(); });
});
if (data.operations.length < data.all)
  document.getElementById("cut").textContent = `Of ${data.all.toLocaleString("en")} operations, the ${data.operations.length.toLocaleString("en")} nearest to what is wrong are drawn below; the overview counts all of them.`;
addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
if (data.violations.length) choose(0, false); else draw();
