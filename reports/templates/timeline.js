/* The timeline: one canvas for the lanes, one above it for cursor and selection. Lanes are the labels in the page. */
report.timeline = (() => {
const frame = one("#tl");
if (!frame) return null;
const data = report.data, chart = one("#tl-chart"), over = one("#tl-over"), readout = one("#readout"), spoken = one("#spoken");
const ROW = { fault: 26, node: 16, shard: 17 };
const FONT = getComputedStyle(document.body).fontFamily;
const MERGED_TINTS = 5;
const end = data.planned;
let from = 0, to = end, cursor = null, drag = null, L = null, C = {}, ratio = 1;
let hits = [];

/* ---- data, decoded once ---- */
const latency = data.latency && { ...data.latency, heat: data.latency.heat ? Uint8Array.from(atob(data.latency.heat), c => c.charCodeAt(0)) : null };
const LOW = latency?.heat_min_ms || 1, HIGH = latency?.heat_max_ms || 4000;
const points = { t: [], ms: [], outcome: [] };
for (let i = 0, t = 0; i < data.points.length; i += 2) {
  t += data.points[i];
  points.t.push(t / 1000);
  points.ms.push(Math.floor(data.points[i + 1] / 3) / 100);
  points.outcome.push(data.points[i + 1] % 3);
}
const names = [...new Set([...data.nodes.map(n => n.name), ...data.shards.flatMap(s => s.segments.map(q => q[2])).filter(Boolean)])].sort();
const tint = new Map(names.map((name, i) => [name, "t" + i % MERGED_TINTS]));
const marks = [...data.marks].sort((a, b) => a.from - b.from);

/* ---- text and numbers ---- */
const fmtTime = (t, span) => t.toFixed(span < 0.5 ? 3 : span < 6 ? 2 : span < 25 ? 1 : 0);
const fmtMs = ms => ms == null ? "\u2013" : ms < 100 ? ms.toFixed(1) + " ms" : ms < 1000 ? Math.round(ms) + " ms" : (ms / 1000).toFixed(2) + " s";
const fmtShare = x => x === 1 ? "100\u2009%" : Math.min(99.99, x * 100).toFixed(2) + "\u2009%";
function alpha(hex, a) {
  const n = parseInt(hex.slice(1), 16);
  return `rgba(${n >> 16},${n >> 8 & 255},${n & 255},${a})`;
}
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["surface", "sunk", "ink", "ink2", "ink3", "line", "line2", "ok-fill", "fail", "fail-fill", "unknown", "unknown-fill", "strip-ok", "p99", "raw",
    "p50", "hidden", "hidden-alpha", "heat", "band", "focus", "k-network", "k-process", "k-disk", "k-clock", "k-resource", "k-none", "t0", "t1", "t2", "t3", "t4"])
    C[name] = style.getPropertyValue("--" + name).trim();
  hatches.clear();
}
const hatches = new Map();
function hatch(g, colour, gap = 5) { /* "we do not know" or "nobody served", nothing else */
  const key = colour + gap;
  if (!hatches.has(key)) {
    const tile = document.createElement("canvas"), n = tile.width = tile.height = gap * 2, q = tile.getContext("2d");
    q.strokeStyle = colour;
    q.lineWidth = 1.6;
    for (const o of [-n, 0, n]) { q.beginPath(); q.moveTo(o - 2, n + 2); q.lineTo(o + n + 2, -2); q.stroke(); }
    hatches.set(key, g.createPattern(tile, "repeat"));
  }
  return hatches.get(key);
}
function write(g, text, x, y, colour, align = "left", weight = 400) {
  g.font = `${weight} 12px ${FONT}`;
  g.fillStyle = colour;
  g.textAlign = align;
  g.textBaseline = "middle";
  g.fillText(text, x, y);
}
function widthOf(g, text, weight = 400) { g.font = `${weight} 12px ${FONT}`; return g.measureText(text).width; }
function box(g, x, y, w, h, r) { g.beginPath(); g.roundRect(x, y, Math.max(w, 0.5), h, Math.min(r, w / 2)); }
function stroke(g, x0, y0, x1, y1) { g.beginPath(); g.moveTo(x0, y0); g.lineTo(x1, y1); g.stroke(); }

/* ---- layout: lanes from top to bottom, as the labels stand in the page ---- */
function layout() {
  const width = frame.clientWidth, narrow = width < 640, gutter = narrow ? 0 : 148, above = narrow ? 22 : 0;
  const height = { faults: Math.max(1, data.faults.length) * ROW.fault, marks: 24, availability: 28, throughput: 88, latency: 158,
    nodes: data.nodes.length * ROW.node, shards: data.shards.length * ROW.shard };
  frame.classList.toggle("narrow", narrow);
  const lanes = {};
  let y = 24;
  for (const label of all(".lane-label", frame)) {
    const id = label.dataset.lane;
    y += above;
    lanes[id] = { y, h: Math.max(height[id], narrow ? 0 : label.offsetHeight - 6) };
    label.style.top = (narrow ? y - above + 2 : id === "faults" ? y + 3 : y - 1) + "px";
    y += lanes[id].h + (narrow ? 8 : 16);
  }
  const axis = y - (narrow ? 4 : 12);
  lanes.overview = { y: axis + 24, h: 14 };
  L = { width: width - gutter, height: axis + 44, lanes, left: 44, right: width - gutter - (narrow ? 6 : 12), axis, top: 22, narrow };
  frame.style.height = L.height + "px";
  ratio = Math.max(1, devicePixelRatio || 1);
  for (const canvas of [chart, over]) {
    canvas.width = Math.round(L.width * ratio);
    canvas.height = Math.round(L.height * ratio);
    canvas.style.width = L.width + "px";
    canvas.style.height = L.height + "px";
  }
}
const X = t => L.left + (t - from) / (to - from) * (L.right - L.left);
const timeAt = x => from + (x - L.left) / (L.right - L.left) * (to - from);
const overX = t => L.left + t / end * (L.right - L.left);
const latencyY = ms => { const q = L.lanes.latency; return q.y + q.h - Math.log(clamp(ms, LOW, HIGH) / LOW) / Math.log(HIGH / LOW) * q.h; };

/* ---- bins: as recorded, merged when narrow, counted again from single operations when wide and all are kept ---- */
function binned() {
  const want = (to - from) / Math.max(20, (L.right - L.left) / 5), base = data.bin;
  const some = data.bins.not_sent.some(Boolean);
  if (want < base / 2 && data.pointsShare === 1 && !some) {
    const fine = [0.01, 0.02, 0.05, 0.1, 0.2].filter(s => s < base && s * (data.rate || 0) >= 10); /* fewer say nothing about a share */
    const size = fine.find(s => s >= want * 0.75);
    if (size) return fromPoints(size);
  }
  const merge = Math.max(1, Math.round(want / base)), size = base * merge, out = [];
  const first = Math.max(0, Math.floor(from / size)), last = Math.min(Math.ceil(data.bins.ok.length / merge) - 1, Math.floor(to / size));
  for (let i = first; i <= last; i++) {
    const bin = { t: i * size, ok: 0, fail: 0, unknown: 0, not_sent: 0 };
    for (let j = i * merge; j < Math.min((i + 1) * merge, data.bins.ok.length); j++)
      for (const name of ["ok", "fail", "unknown", "not_sent"]) bin[name] += data.bins[name][j] || 0;
    bin.size = Math.min(size, data.until - bin.t);
    if (bin.size > 0) out.push(bin);
  }
  return { size, list: out };
}
function fromPoints(size) {
  const first = Math.max(0, Math.floor(from / size)), last = Math.floor(Math.min(to, data.until) / size), list = [];
  for (let i = first; i <= last; i++) list.push({ t: i * size, size, ok: 0, fail: 0, unknown: 0, not_sent: 0 });
  for (let k = firstPoint(first * size); k < points.t.length && points.t[k] < (last + 1) * size; k++) {
    const bin = list[Math.floor(points.t[k] / size + 1e-9) - first];
    if (bin) bin[["ok", "fail", "unknown"][points.outcome[k]]]++;
  }
  return { size, list };
}
function firstPoint(t) {
  let low = 0, high = points.t.length;
  while (low < high) { const mid = low + high >> 1; if (points.t[mid] < t) low = mid + 1; else high = mid; }
  return low;
}

/* ---- drawing ---- */
function draw() {
  if (!L) return;
  const g = chart.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, L.width, L.height);
  hits = [];
  drawAxis(g);
  clipped(g, () => { drawBands(g); drawNotRecorded(g); if (L.lanes.faults) drawFaults(g); });
  if (L.lanes.marks) drawMarks(g);
  const bins = binned();
  clipped(g, () => {
    if (L.lanes.availability) drawAvailability(g, bins);
    if (L.lanes.throughput) drawThroughput(g, bins);
    if (L.lanes.latency) drawLatency(g);
    if (L.lanes.nodes) drawNodes(g);
    if (L.lanes.shards) drawShards(g);
  });
  drawScales(g);
  drawOverview(g);
  drawOver();
}
function clipped(g, paint) {
  g.save();
  g.beginPath();
  g.rect(L.left, L.top, L.right - L.left, L.axis - L.top);
  g.clip();
  paint();
  g.restore();
}
function niceStep(span, px) {
  const want = span / Math.max(2, px / (L.narrow ? 50 : 90)), power = 10 ** Math.floor(Math.log10(want));
  return [1, 2, 5, 10].map(k => k * power).find(s => s >= want * (1 - 1e-9));
}
function drawAxis(g) {
  const step = niceStep(to - from, L.right - L.left), places = step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : 3;
  g.strokeStyle = C.line;
  g.lineWidth = 1;
  for (let t = Math.ceil(from / step - 1e-9) * step; t <= to + 1e-9; t += step) {
    const x = Math.round(X(t)) + 0.5, last = t + step > to + 1e-9, label = t.toFixed(places) + (last ? " s" : "");
    stroke(g, x, L.top, x, L.axis);
    const edge = x > L.right - 16;
    for (const y of [10, L.axis + 11]) write(g, label, edge ? L.right + 2 : x, y, C.ink3, edge ? "right" : "center");
  }
}
function drawBands(g) {
  for (const f of data.faults) {
    if (f.injected == null) continue;
    const colour = f.isProven ? C["k-" + f.kind] : C.unknown, x0 = X(f.injected), x1 = X(f.healed ?? data.until);
    g.fillStyle = f.isProven ? alpha(colour, Number(C.band)) : hatch(g, alpha(colour, 0.22), 7);
    g.fillRect(x0, L.top, x1 - x0, L.axis - L.top);
    g.strokeStyle = alpha(colour, 0.55);
    g.lineWidth = 1;
    for (const x of [x0, x1]) stroke(g, Math.round(x) + 0.5, L.top, Math.round(x) + 0.5, L.axis);
  }
}
function drawNotRecorded(g) {
  if (data.until >= end - data.bin) return;
  const x = X(data.until), w = L.right - x, y = (L.lanes.latency || L.lanes.throughput || L.lanes.faults || { y: L.top }).y + 30;
  g.fillStyle = C.sunk;
  g.fillRect(x, L.top, w, L.axis - L.top);
  g.fillStyle = hatch(g, alpha(C.ink3, 0.28), 6);
  g.fillRect(x, L.top, w, L.axis - L.top);
  if (w > 104) { g.fillStyle = C.surface; g.fillRect(x + 8, y - 11, 92, 22); write(g, "not recorded", x + 54, y, C.ink2, "center", 600); }
}
function drawFaults(g) {
  data.faults.forEach((f, row) => {
    const y = L.lanes.faults.y + row * ROW.fault, h = 20, colour = f.isProven ? C["k-" + f.kind] : C.unknown;
    const start = f.injected ?? f.planned?.[0], stop = f.healed ?? (f.injected == null ? f.planned?.[1] : data.until);
    if (start == null || stop == null) return;
    if (f.planned) {
      g.setLineDash([4, 3]);
      g.strokeStyle = colour;
      g.lineWidth = 1;
      g.strokeRect(X(f.planned[0]) - 0.5, y + 0.5, X(f.planned[1]) - X(f.planned[0]) + 1, h);
      g.setLineDash([]);
    }
    let tail = X(stop);
    if (f.injected != null) {
      const x0 = X(f.injected), x1 = X(stop), solid = X(f.proven ?? f.injected);
      if (f.isProven) {
        g.fillStyle = alpha(colour, 0.35);
        g.fillRect(x0, y + 2.5, solid - x0, h - 4);
        g.fillStyle = colour;
        g.fillRect(solid, y + 2.5, x1 - solid, h - 4);
      } else { g.fillStyle = hatch(g, colour); g.fillRect(x0, y + 2.5, x1 - x0, h - 4); }
      if (f.inSync != null && f.inSync > stop) {
        tail = X(f.inSync);
        g.fillStyle = alpha(colour, 0.7);
        g.fillRect(x1, y + h / 2 - 1, tail - x1, 3);
        g.beginPath();
        g.arc(tail, y + h / 2 + 0.5, 3, 0, 7);
        g.fill();
      }
      if (f.healed != null) { g.fillStyle = C.ink; g.fillRect(x1 - 1, y, 2, h + 1); }
    }
    faultName(g, f, X(f.proven ?? start), X(stop), tail, y + h / 2 + 1);
    hits.push({ x0: X(start), x1: Math.max(tail, X(start) + 6), y0: y, y1: y + h, href: "#faults" });
  });
}
function faultName(g, f, x0, x1, tail, y) {
  const names = [f.name, f.short].map(name => name + (f.failed || f.injected == null ? " (not injected)" : f.isProven ? "" : " (not proven)"));
  const a = Math.max(x0, L.left), b = Math.min(x1, L.right);
  if (b <= L.left || a >= L.right) return;
  for (const name of L.narrow ? names.slice(1) : names) {
    const w = widthOf(g, name, 600);
    if (f.isProven && b - a > w + 16) return write(g, name, a + 8, y, C.surface, "left", 600);
    if (tail + w + 12 < L.right) return write(g, name, tail + 9, y, C.ink, "left", 600);
    if (x0 - w - 12 > L.left) return write(g, name, x0 - 9, y, C.ink, "right", 600);
  }
  write(g, names[1], a + 8, y, f.isProven ? C.surface : C.ink, "left", 600);
}
function markColour(mark) { return mark.state === "fail" ? C.fail : C.unknown; }
function drawMarks(g) {
  const y = L.lanes.marks.y + 10, groups = [];
  for (const mark of marks) {
    const a = Math.max(X(mark.from), L.left), b = Math.min(Math.max(X(mark.to), X(mark.from) + 2), L.right);
    if (b < L.left || a > L.right) continue;
    g.fillStyle = markColour(mark);
    g.fillRect(a, y + 11, b - a, 3);
    if (b - a > 6) { g.fillRect(a, y + 8, 1.5, 6); g.fillRect(b - 1.5, y + 8, 1.5, 6); }
    const last = groups.at(-1), middle = (a + b) / 2;
    if (last && middle - last.middle < 11 * (last.list.length + 1) + 4) {
      if (!last.list.some(other => other.number === mark.number)) last.list.push(mark);
      last.b = Math.max(last.b, b);
      last.middle = (last.a + last.b) / 2;
    } else groups.push({ list: [mark], a, b, middle });
  }
  drawTints(g);
  groups.forEach((group, index) => drawGroup(g, group, groups[index + 1], y));
}
function drawTints(g) { /* one tint where findings overlap, so that its depth means nothing */
  let until = -1;
  g.fillStyle = alpha(C.fail, 0.1);
  for (const mark of marks) {
    if (mark.state !== "fail") continue;
    const a = Math.max(X(mark.from), L.left, until), b = Math.min(Math.max(X(mark.to), X(mark.from) + 2), L.right);
    if (b > a) { g.fillRect(a, L.lanes.marks.y + 24, b - a, L.axis - L.lanes.marks.y - 24); until = b; }
  }
}
function drawGroup(g, group, next, y) {
  const w = group.list.length * 20, x0 = clamp(group.middle - w / 2, L.left, L.right - w);
  group.list.sort((a, b) => a.number - b.number).forEach((mark, k) => {
    const x = x0 + k * 20 + 1;
    g.fillStyle = markColour(mark);
    box(g, x, y - 9, 18, 17, 4);
    g.fill();
    write(g, String(mark.number), x + 9, y, C.surface, "center", 700);
    hits.push({ x0: x - 1, x1: x + 19, y0: y - 12, y1: y + 12, href: mark.href });
  });
  const label = [...new Set(group.list.map(mark => mark.label))].join(", "), x = x0 + w + 5;
  const room = next ? clamp(next.middle - next.list.length * 10, L.left, L.right) - 6 : L.right;
  if (x + widthOf(g, label, 600) < room) write(g, label, x, y, markColour(group.list[0]), "left", 600);
}
function drawAvailability(g, bins) {
  const lane = { y: L.lanes.availability.y, h: 28 };
  for (const bin of bins.list) {
    const x0 = X(bin.t), w = X(bin.t + bin.size) - x0, n = bin.ok + bin.fail + bin.unknown + bin.not_sent, gap = w > 5 ? 1 : 0;
    if (!n) { g.fillStyle = hatch(g, alpha(C.ink3, 0.5)); g.fillRect(x0, lane.y, w, lane.h); continue; }
    g.fillStyle = C["strip-ok"];
    g.fillRect(x0, lane.y, w - gap + 0.3, lane.h);
    const bad = 1 - bin.ok / n;
    if (bad > 0) { const h = Math.max(4, lane.h * bad); g.fillStyle = C["fail-fill"]; g.fillRect(x0, lane.y + lane.h - h, Math.max(1.5, w - gap), h); }
  }
  const note = one('[data-lane="availability"] small span', frame), size = Math.round(bins.size * 1000);
  if (note) note.textContent = `share not ok, per ${size < 1000 ? size + " ms" : size / 1000 + " s"}`;
}
const throughputTop = () => {
  if (!throughputTop.value) {
    let most = data.rate || 0;
    for (let i = 0; i < data.bins.ok.length; i++) most = Math.max(most, (data.bins.ok[i] + (data.bins.fail[i] || 0) + (data.bins.unknown[i] || 0)) / data.bin);
    throughputTop.value = Math.min(most, (data.rate || most) * 1.6) * 1.15 || 1;
  }
  return throughputTop.value;
};
const throughputY = perSecond => L.lanes.throughput.y + 88 - Math.min(1, perSecond / throughputTop()) * 88;
function drawThroughput(g, bins) {
  for (const bin of bins.list) {
    const x0 = X(bin.t), full = X(bin.t + bin.size) - x0, w = full - (full > 6 ? 1 : 0) + 0.3;
    let below = 0;
    for (const [name, colour] of [["ok", C["ok-fill"]], ["fail", C["fail-fill"]], ["unknown", C["unknown-fill"]], ["not_sent", null]]) {
      const rate = bin[name] / bin.size;
      if (!rate) continue;
      const y1 = throughputY(below + rate), y0 = throughputY(below);
      if (colour) { g.fillStyle = colour; g.fillRect(x0, y1, w, Math.max(1, y0 - y1)); }
      else { g.strokeStyle = C.ink3; g.lineWidth = 1; g.strokeRect(x0 + 0.5, y1 + 0.5, Math.max(1, w - 1), Math.max(1, y0 - y1 - 1)); }
      below += rate;
    }
  }
  if (data.rate) {
    g.strokeStyle = C.ink3;
    g.setLineDash([5, 4]);
    g.lineWidth = 1.2;
    stroke(g, L.left, throughputY(data.rate), L.right, throughputY(data.rate));
    g.setLineDash([]);
  }
}
function drawLatency(g) {
  const lane = L.lanes.latency, span = to - from, size = latency.bin_s, n = latency.p99_us.length;
  const first = Math.max(0, Math.floor(from / size) - 1), last = Math.min(n - 1, Math.ceil(to / size));
  g.strokeStyle = C.line;
  g.lineWidth = 1;
  for (const ms of [10, 100, 1000]) if (ms > LOW && ms < HIGH) stroke(g, L.left, Math.round(latencyY(ms)) + 0.5, L.right, Math.round(latencyY(ms)) + 0.5);
  const dots = span < 12 && points.t.length > 0, lines = span > 4 || !dots;
  if (!dots && latency.heat) drawHeat(g, lane, first, last, size);
  if (lines) {
    g.fillStyle = alpha(C.hidden, Number(C["hidden-alpha"]));
    for (const [a, b] of runs(first, last)) {
      g.beginPath();
      for (let i = a; i <= b; i++) g.lineTo(X((i + 0.5) * size), latencyY(latency.p99_us[i] / 1000));
      for (let i = b; i >= a; i--) g.lineTo(X((i + 0.5) * size), latencyY((latency.p99_raw_us[i] ?? latency.p99_us[i]) / 1000));
      g.fill();
    }
  }
  if (dots) drawDots(g);
  if (lines) for (const [name, colour, w, dash] of [["p50_us", C.p50, 1.4, []], ["p99_raw_us", C.raw, 1.5, [4, 3]], ["p99_us", C.p99, 1.8, []]]) curve(g, latency[name] || [], first, last, size, colour, w, dash);
  if (data.latencyTarget) drawTarget(g);
  if (dots && !lines) {
    const share = data.pointsShare === 1 ? "" : `: ${data.pointsText || Math.round(data.pointsShare * 100) + "\u2009% of all"}`;
    write(g, "single operations" + share, L.right - 6, lane.y + 8, C.ink2, "right");
  }
  if (!lines) drawRings(g);
}
function* runs(first, last) { /* stretches without a missing bin: a gap in the data stays a gap in the line */
  let a = null;
  for (let i = first; i <= last + 1; i++) {
    const there = i <= last && latency.p99_us[i] != null;
    if (there && a === null) a = i;
    if (!there && a !== null) { yield [a, i - 1]; a = null; }
  }
}
function drawHeat(g, lane, first, last, size) {
  const rows = latency.heat_rows, h = lane.h / rows;
  for (let i = first; i <= last; i++) for (let r = 0; r < rows; r++) {
    const n = latency.heat[i * rows + r];
    if (!n) continue;
    g.fillStyle = alpha(C.heat, (0.1 + 0.55 * Math.sqrt(n / 255)).toFixed(2));
    g.fillRect(X(i * size), lane.y + lane.h - (r + 1) * h, X((i + 1) * size) - X(i * size) + 0.3, h + 0.3);
  }
}
function curve(g, values, first, last, size, colour, w, dash) {
  g.setLineDash(dash);
  g.strokeStyle = colour;
  g.lineWidth = w;
  g.lineJoin = "round";
  g.beginPath();
  let pen = false;
  for (let i = first; i <= last; i++) {
    if (values[i] == null) { pen = false; continue; }
    const x = X((i + 0.5) * size), y = latencyY(values[i] / 1000);
    if (pen) g.lineTo(x, y); else g.moveTo(x, y);
    pen = true;
  }
  g.stroke();
  g.setLineDash([]);
}
function drawDots(g) {
  for (let k = firstPoint(from); k < points.t.length && points.t[k] <= to; k++) {
    const x = X(points.t[k]), y = latencyY(points.ms[k]);
    g.lineWidth = 1.3;
    if (points.outcome[k] === 0) { g.fillStyle = alpha(C.heat, 0.5); g.fillRect(x - 1, y - 1, 2, 2); }
    else if (points.outcome[k] === 1) { g.strokeStyle = C["fail-fill"]; stroke(g, x - 2.5, y - 2.5, x + 2.5, y + 2.5); stroke(g, x - 2.5, y + 2.5, x + 2.5, y - 2.5); }
    else { g.strokeStyle = C["unknown-fill"]; g.beginPath(); g.arc(x, y, 2.6, 0, 7); g.stroke(); }
  }
}
function drawTarget(g) {
  const y = latencyY(data.latencyTarget.ms), label = data.latencyTarget.label;
  g.setLineDash([2, 3]);
  g.strokeStyle = C.ink2;
  g.lineWidth = 1;
  stroke(g, L.left, y, L.right, y);
  g.setLineDash([]);
  g.fillStyle = alpha(C.surface, 0.82);
  g.fillRect(L.left + 3, y - 17, widthOf(g, label) + 6, 15);
  write(g, label, L.left + 6, y - 9, C.ink2);
}
function drawRings(g) {
  const used = [];
  for (const ring of data.rings) {
    const x = X(ring.start), y = latencyY((ring.end - ring.start) * 1000), colour = ring.bad ? C.fail : C.ink;
    if (x < L.left || x > L.right) continue;
    const w = widthOf(g, ring.label, 600), left = x + w + 18 > L.right, x0 = left ? x - w - 12 : x + 8;
    let line = y;
    while (used.some(u => Math.abs(u.y - line) < 14 && u.x0 < x0 + w && u.x1 > x0)) line -= 15; /* labels never cover each other */
    used.push({ x0, x1: x0 + w, y: line });
    g.fillStyle = alpha(C.surface, 0.85);
    g.fillRect(x0 - 2, line - 8, w + 6, 15);
    g.fillStyle = C.surface;
    g.strokeStyle = colour;
    g.lineWidth = 2;
    g.beginPath();
    g.arc(x, y, 4, 0, 7);
    g.fill();
    g.stroke();
    write(g, ring.label, x0, line, colour, "left", 600);
  }
}
function drawNodes(g) {
  data.nodes.forEach((node, row) => {
    const y = L.lanes.nodes.y + row * ROW.node + 4;
    for (const [t0, t1, state] of node.segments) {
      const x0 = X(t0), w = Math.max(2, X(t1) - x0);
      if (state === "up") { g.fillStyle = C.line2; g.fillRect(x0, y, w, 8); }
      else if (state === "cut-off") { g.fillStyle = C.surface; g.fillRect(x0, y, w, 8); g.strokeStyle = C["k-network"]; g.lineWidth = 1.5; g.strokeRect(x0 + 0.5, y + 0.5, w - 1, 7); }
      else if (state === "paused") { g.fillStyle = alpha(C["k-process"], 0.25); g.fillRect(x0, y, w, 8); g.fillStyle = C["k-process"]; for (let x = Math.max(x0, L.left - 8); x < Math.min(x0 + w, L.right); x += 12) { g.fillRect(x + 2, y, 2, 8); g.fillRect(x + 6, y, 2, 8); } }
      else if (state === "catching-up") { g.fillStyle = C.ink3; for (let x = Math.max(x0, L.left - 4); x < Math.min(x0 + w, L.right); x += 4) g.fillRect(x, y, 2, 8); }
      else { g.strokeStyle = C.fail; g.lineWidth = 2; g.setLineDash([2, 3]); stroke(g, x0 + 1, y + 4, x0 + w - 1, y + 4); g.setLineDash([]); }
    }
  });
}
function drawShards(g) {
  data.shards.forEach((shard, row) => {
    const y = L.lanes.shards.y + row * ROW.shard + 1;
    for (const [t0, t1, name, epoch] of shard.segments) {
      const x0 = X(t0), x1 = X(t1), a = Math.max(x0, L.left), b = Math.min(x1, L.right);
      if (b <= a - 3) continue;
      if (!name) {
        const w = Math.max(3, x1 - x0);
        g.fillStyle = C.surface;
        g.fillRect(x0, y, w, 15);
        g.fillStyle = w > 6 ? hatch(g, C.fail) : C.fail;
        g.fillRect(x0, y, w, 15);
        continue;
      }
      g.fillStyle = C[tint.get(name)];
      box(g, x0 + (t0 > 0 ? 1 : 0), y, x1 - x0 - 1, 15, 2);
      g.fill();
      const long = epoch == null ? name : `${name}, epoch ${epoch}`;
      if (b - a > widthOf(g, long) + 14) write(g, long, a + 7, y + 8, C.ink);
      else if (b - a > widthOf(g, name) + 8) write(g, name, a + 4, y + 8, C.ink);
    }
  });
}
function drawScales(g) {
  const right = L.left - 6;
  g.strokeStyle = C.line2;
  g.lineWidth = 1;
  if (L.lanes.throughput) {
    const base = throughputY(0);
    stroke(g, L.left, base + 0.5, L.right, base + 0.5);
    write(g, "0", right, base - 4, C.ink3, "right");
    if (data.rate) for (const v of [data.rate, data.rate / 2]) write(g, v.toLocaleString("en"), right, throughputY(v), C.ink3, "right");
  }
  if (L.lanes.latency) {
    const lane = L.lanes.latency;
    stroke(g, L.left, lane.y + lane.h + 0.5, L.right, lane.y + lane.h + 0.5);
    for (const [ms, label] of [[1, "1 ms"], [10, "10 ms"], [100, "0.1 s"], [1000, "1 s"]])
      if (ms >= LOW && ms <= HIGH) write(g, label, right, latencyY(ms) - (ms === LOW ? 4 : 0), C.ink3, "right");
  }
  const fit = text => { let s = text; while (s.length > 1 && widthOf(g, s) > L.left - 8) s = s.slice(0, -1); return s; };
  if (L.lanes.nodes) data.nodes.forEach((node, row) => write(g, fit(node.name), right, L.lanes.nodes.y + row * ROW.node + 8, C.ink2, "right"));
  if (L.lanes.shards) data.shards.forEach((shard, row) => write(g, fit("s" + shard.shard), right, L.lanes.shards.y + row * ROW.shard + 9, C.ink2, "right"));
}
function drawOverview(g) { /* the whole run, with the part in view outlined */
  const lane = L.lanes.overview;
  g.fillStyle = C.sunk;
  box(g, L.left, lane.y, L.right - L.left, lane.h, 3);
  g.fill();
  for (const f of data.faults) {
    if (f.injected == null) continue;
    g.fillStyle = alpha(f.isProven ? C["k-" + f.kind] : C.unknown, 0.35);
    g.fillRect(overX(f.injected), lane.y, overX(f.healed ?? data.until) - overX(f.injected), lane.h);
  }
  g.fillStyle = C["fail-fill"];
  data.bins.ok.forEach((ok, i) => {
    const n = ok + (data.bins.fail[i] || 0) + (data.bins.unknown[i] || 0) + (data.bins.not_sent[i] || 0);
    if (n && ok / n < 0.98) g.fillRect(overX(i * data.bin), lane.y, Math.max(1.5, overX(data.bin) - overX(0)), lane.h);
  });
  if (data.until < end - data.bin) { g.fillStyle = hatch(g, alpha(C.ink3, 0.4), 5); g.fillRect(overX(data.until), lane.y, L.right - overX(data.until), lane.h); }
  g.strokeStyle = C.ink;
  g.lineWidth = 1.5;
  box(g, overX(from) + 0.75, lane.y - 1, Math.max(4, overX(to) - overX(from) - 1.5), lane.h + 2, 3);
  g.stroke();
}
function drawOver() {
  const g = over.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, L.width, L.height);
  if (drag && !drag.pan && Math.abs(drag.x1 - drag.x0) > 3) {
    const a = Math.min(drag.x0, drag.x1), w = Math.abs(drag.x1 - drag.x0);
    g.fillStyle = alpha(C.focus, 0.16);
    g.fillRect(a, L.top, w, L.axis - L.top);
    g.strokeStyle = C.focus;
    g.strokeRect(a + 0.5, L.top + 0.5, w, L.axis - L.top);
  }
  if (cursor === null || cursor < from || cursor > to) return;
  const x = Math.round(X(cursor)) + 0.5, label = fmtTime(cursor, Math.min(to - from, 5)) + " s", w = widthOf(g, label, 600) + 12;
  const left = clamp(x - w / 2, L.left, L.right - w);
  g.strokeStyle = C.ink;
  g.lineWidth = 1;
  stroke(g, x, L.top - 2, x, L.axis);
  g.fillStyle = C.ink;
  box(g, left, 1, w, 18, 4);
  g.fill();
  write(g, label, left + w / 2, 10.5, C.surface, "center", 600);
}

/* ---- values under the cursor: one line above, never over the data ---- */
function valuesAt(t) {
  const values = [["At", t.toFixed(2) + " s"]];
  if (t >= data.until) return [...values, ["", "not recorded"]];
  const i = Math.floor(t / data.bin), count = name => data.bins[name]?.[i] || 0;
  const total = count("ok") + count("fail") + count("unknown") + count("not_sent");
  if (data.bins.ok.length) {
    values.push(["availability", total ? fmtShare(count("ok") / total) : "\u2013", total > 0 && count("ok") < total]);
    for (const name of ["ok", "fail", "unknown", "not_sent"])
      if (name === "ok" || count(name)) values.push([name.replace("_", " "), Math.round(count(name) / data.bin).toLocaleString("en") + "/s", name === "fail"]);
  }
  if (latency) {
    const j = Math.floor(t / latency.bin_s), us = name => latency[name]?.[j] == null ? null : latency[name][j] / 1000;
    values.push(["p50", fmtMs(us("p50_us"))], ["p99 raw", fmtMs(us("p99_raw_us"))], ["p99 from schedule", fmtMs(us("p99_us"))]);
  }
  const active = data.faults.filter(f => f.injected != null && t >= f.injected && t <= (f.healed ?? data.until)).map(f => f.short);
  if (active.length) values.push(["fault", active.join(", ")]);
  const found = marks.filter(m => t >= m.from - 0.005 && t <= m.to + 0.005).map(m => `${m.number} ${m.label}`);
  if (found.length) values.push(["finding", [...new Set(found)].join(", "), true]);
  return values;
}
function say(aloud = false) {
  const span = to - from;
  const values = cursor === null ? [["Showing", `${fmtTime(from, span)}\u2013${fmtTime(to, span)} s`], ["Move over the chart to read values", ""]] : valuesAt(cursor);
  readout.replaceChildren(...values.map(([name, value, bad]) => {
    const item = document.createElement("span"), strong = document.createElement("b");
    item.textContent = name + " ";
    strong.textContent = value;
    strong.className = bad ? "bad" : "";
    item.append(strong);
    return item;
  }));
  if (aloud) spoken.textContent = values.map(v => v[0] + " " + v[1]).join(", ");
}

/* ---- the part in view ---- */
function show(a, b, link = true) {
  const span = clamp(b - a, Math.min(0.05, end), end);
  from = clamp(a, 0, end - span);
  to = from + span;
  const whole = span >= end - 0.005;
  for (const button of all(".preset")) {
    const on = "whole" in button.dataset ? whole : Math.abs(button.dataset.from - from) < 0.01 && Math.abs(button.dataset.to - to) < 0.01;
    button.setAttribute("aria-pressed", String(on));
  }
  const places = span < 1 ? 3 : 2;
  if (link) try { history.replaceState(null, "", whole ? "#timeline" : `#t=${from.toFixed(places)}-${to.toFixed(places)}`); } catch { /* some browsers refuse on file:// */ }
  draw();
  say();
}
function zoom(factor, at = (from + to) / 2) { show(at - (at - from) * factor, at + (to - at) * factor); }
function moveCursor(t) { cursor = clamp(t, 0, end); if (cursor < from || cursor > to) show(cursor - (to - from) / 2, cursor + (to - from) / 2); drawOver(); say(true); }
const whereX = event => event.clientX - over.getBoundingClientRect().left;
const whereY = event => event.clientY - over.getBoundingClientRect().top;
const hitAt = (x, y) => hits.find(h => x >= h.x0 && x <= h.x1 && y >= h.y0 && y <= h.y1);
function pan(x) { const span = to - from, centre = (x - L.left) / (L.right - L.left) * end; show(centre - span / 2, centre + span / 2); }

over.addEventListener("pointerdown", event => {
  if (event.button) return;
  const x = clamp(whereX(event), L.left, L.right), y = whereY(event);
  drag = { x0: x, x1: x, y, pan: y >= L.lanes.overview.y - 3 };
  if (event.pointerType === "mouse") over.setPointerCapture(event.pointerId);
});
over.addEventListener("pointermove", event => {
  const x = whereX(event), y = whereY(event);
  cursor = clamp(timeAt(x), from, to);
  if (drag?.pan) pan(x); else if (drag) drag.x1 = clamp(x, L.left, L.right);
  over.style.cursor = hitAt(x, y) ? "pointer" : "crosshair";
  drawOver();
  say();
});
over.addEventListener("pointerup", event => {
  const done = drag;
  drag = null;
  if (!done) return;
  if (done.pan) return pan(whereX(event));
  if (Math.abs(done.x1 - done.x0) > 5) return show(timeAt(Math.min(done.x0, done.x1)), timeAt(Math.max(done.x0, done.x1)));
  const hit = hitAt(done.x0, done.y);
  if (hit) location.hash = hit.href; else drawOver();
});
over.addEventListener("pointercancel", () => { drag = null; drawOver(); });
over.addEventListener("pointerleave", () => { if (!drag) { cursor = null; drawOver(); say(); } });
over.addEventListener("dblclick", () => show(0, end));
over.addEventListener("wheel", event => { /* a plain wheel scrolls the page */
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(whereX(event)));
}, { passive: false });

function nextMark(direction) {
  const at = cursor ?? (direction > 0 ? -1 : end + 1), times = marks.map(m => m.from);
  return direction > 0 ? times.find(t => t > at + 1e-6) : times.reverse().find(t => t < at - 1e-6);
}
function key(event) {
  const span = to - from, middle = (from + to) / 2;
  switch (event.key) {
    case "ArrowLeft": case "ArrowRight": {
      const direction = event.key === "ArrowLeft" ? -1 : 1;
      if (event.shiftKey) show(from + direction * span * 0.2, to + direction * span * 0.2);
      else moveCursor((cursor ?? middle) + direction * Math.max(0.01, span / 100));
      return true;
    }
    case "+": case "=": zoom(0.5, cursor ?? undefined); return true;
    case "-": zoom(2, cursor ?? undefined); return true;
    case "0": case "Escape": show(0, end); return true;
    case "Home": moveCursor(from); return true;
    case "End": moveCursor(to); return true;
    case "n": case "p": { const t = nextMark(event.key === "n" ? 1 : -1); if (t !== undefined) moveCursor(t); return true; }
    case "Enter": { const mark = marks.find(m => cursor !== null && Math.abs(m.from - cursor) < 0.02); if (mark) location.hash = mark.href; return true; }
    default: return false;
  }
}
frame.addEventListener("keydown", event => { if (!event.ctrlKey && !event.metaKey && !event.altKey && key(event)) event.preventDefault(); });
for (const button of all(".preset")) button.addEventListener("click", () => "whole" in button.dataset ? show(0, end) : show(Number(button.dataset.from), Number(button.dataset.to)));
one("#preset-list")?.addEventListener("change", event => { const span = event.target.value.split("-").map(Number); if (span.length === 2) show(...span); });
for (const button of all("[data-zoom]")) button.addEventListener("click", () => zoom(button.dataset.zoom === "in" ? 0.5 : 2));

let width = 0;
new ResizeObserver(() => { if (frame.clientWidth !== width) { width = frame.clientWidth; layout(); draw(); } }).observe(frame);
readColours();
layout();
show(0, end, false);
return {
  show: (a, b) => { cursor = null; show(a, b, false); },
  /* A sheet is narrower than a screen, and no resize comes before printing: lay out for it, and back afterwards. */
  printing: on => {
    frame.style.width = on ? "640px" : "";
    layout();
    show(...on ? [0, end] : [from, to], false);
  },
  view: () => [from, to],
  recolour: () => { readColours(); draw(); },
};
})();
setTheme(THEMES.includes(remembered.get()) ? remembered.get() : "auto");
followHash();
