"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const floats = (text) => {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return new Float32Array(bytes.buffer);
  };
  const count = data.ids.length, GREY = "#b9bec6", RIGHT = "#0072b2", WRONG = "#d55e00";
  for (const task of data.tasks) task.targets = floats(task.targets);
  for (const view of data.views) {
    view.x = floats(view.x); view.y = floats(view.y);
    view.kept = view.kept && floats(view.kept);
    for (const name of Object.keys(view.predicted)) view.predicted[name] = floats(view.predicted[name]);
  }
  const state = { task: 0, mode: "target", hidden: new Set(), hovered: -1, selected: new Set() };
  const $ = (id) => document.getElementById(id);
  const make = (tag, props = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...children.filter((c) => c !== null && c !== undefined));
    return node;
  };

  // Colours: every colouring gives each sample a bin; a bin has a colour and a name.
  const MODES = { target: "target", predicted: `prediction (${data.probe})`, error: `error (${data.probe})`, moved: "who moved" };
  const modesOf = () => Object.keys(MODES).filter((mode) => {
    if (mode === "moved") return data.views.every((v) => v.kept);
    return mode === "target" || (data.tasks.length && data.views.some((v) => v.predicted[data.tasks[state.task].name]));
  });
  const step = (value, low, high) => {
    const share = (value - low) / (high - low || 1);
    return Math.max(0, Math.min(data.scale.length - 1, Math.floor(share * data.scale.length)));
  };
  const colouring = (view) => {
    const bins = new Int16Array(count).fill(-1), task = data.tasks[state.task];
    if (state.mode === "moved") {
      for (let i = 0; i < count; i++) bins[i] = step(view.kept[i], 0, 1.0001);
      return { bins, colours: data.scale, ends: ["0% of neighbours kept", "100%"] };
    }
    if (!task) return { bins: bins.fill(0), colours: [RIGHT], names: ["samples"] };
    const predicted = view.predicted[task.name];
    if (state.mode === "error") {
      if (!predicted) return { bins, colours: [RIGHT, WRONG], names: ["right", "wrong"] };
      if (task.classes.length) {
        for (let i = 0; i < count; i++) {
          if (!isNaN(task.targets[i]) && !isNaN(predicted[i])) bins[i] = task.targets[i] === predicted[i] ? 0 : 1;
        }
        return { bins, colours: [RIGHT, WRONG], names: ["right", "wrong"] };
      }
      let most = 0;
      for (let i = 0; i < count; i++) {
        const off = Math.abs(task.targets[i] - predicted[i]);
        if (off > most) most = off;
      }
      for (let i = 0; i < count; i++) {
        const off = Math.abs(task.targets[i] - predicted[i]);
        if (!isNaN(off)) bins[i] = step(off, 0, most);
      }
      return { bins, colours: data.scale, ends: ["no error", `${short(most)} ${task.unit}`] };
    }
    const values = state.mode === "predicted" ? predicted : task.targets;
    if (task.classes.length) {
      for (let i = 0; values && i < count; i++) if (!isNaN(values[i])) bins[i] = values[i];
      return { bins, colours: task.colours, names: task.classes };
    }
    for (let i = 0; values && i < count; i++) if (!isNaN(values[i])) bins[i] = step(values[i], task.low, task.high);
    return { bins, colours: data.scale, ends: [`${short(task.low)} ${task.unit}`, `${short(task.high)} ${task.unit}`] };
  };
  const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString());

  // One map: a canvas that changes with the colouring, and one above it for marks.
  class Plot {
    constructor(view) {
      this.view = view;
      this.base = make("canvas"); this.top = make("canvas");
      this.box = make("div", { className: "plot", tabIndex: 0 }, this.base, this.top);
      this.box.setAttribute("role", "application");
      this.box.setAttribute("aria-label", `map of ${view.label}; arrows step from sample to sample`);
      const caption = make("figcaption", {}, make("b", { textContent: view.label }), make("small", { textContent: view.caption }));
      this.figure = make("figure", {}, this.box, caption);
      this.fit();
      this.listen();
      new ResizeObserver(() => this.resize()).observe(this.box);
    }
    fit() { this.zoom = 1; this.cx = 0; this.cy = 0; }
    resize() {
      const ratio = window.devicePixelRatio || 1;
      this.width = this.box.clientWidth; this.height = this.box.clientHeight;
      for (const canvas of [this.base, this.top]) {
        canvas.width = Math.round(this.width * ratio); canvas.height = Math.round(this.height * ratio);
        canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
      }
      this.draw();
    }
    get scale() { return 0.47 * Math.min(this.width, this.height) * this.zoom; }
    place() {
      const s = this.scale, x = this.view.x, y = this.view.y;
      this.px = this.px || new Float32Array(count); this.py = this.py || new Float32Array(count);
      for (let i = 0; i < count; i++) {
        this.px[i] = this.width / 2 + (x[i] - this.cx) * s;
        this.py[i] = this.height / 2 - (y[i] - this.cy) * s;
      }
      this.cells = new Map();
      for (let i = 0; i < count; i++) {
        const key = (this.px[i] >> 4) * 4096 + (this.py[i] >> 4), cell = this.cells.get(key);
        if (cell) cell.push(i); else this.cells.set(key, [i]);
      }
    }
    recolour() { Object.assign(this, colouring(this.view)); }
    shown(i) { return !state.hidden.has(this.bins[i]); }
    draw() {
      if (!this.width) return;
      if (!this.bins) this.recolour();
      this.place();
      const pen = this.base.getContext("2d"), dim = state.selected.size > 0;
      pen.clearRect(0, 0, this.width, this.height);
      const size = Math.max(2, Math.min(7, (count > 5000 ? 2.4 : count > 1500 ? 3.2 : 4.4) * Math.sqrt(this.zoom)));
      for (const bright of dim ? [false, true] : [true]) {
        const lists = new Map();
        for (let i = 0; i < count; i++) {
          if (!this.shown(i) || (dim && state.selected.has(i) !== bright)) continue;
          const list = lists.get(this.bins[i]);
          if (list) list.push(i); else lists.set(this.bins[i], [i]);
        }
        pen.globalAlpha = bright ? 0.85 : 0.13;
        for (const [bin, list] of lists) {
          pen.fillStyle = bin < 0 ? GREY : this.colours[bin];
          if (count > 4000) for (const i of list) pen.fillRect(this.px[i] - size / 2, this.py[i] - size / 2, size, size);
          else {
            pen.beginPath();
            for (const i of list) { pen.moveTo(this.px[i] + size / 2, this.py[i]); pen.arc(this.px[i], this.py[i], size / 2, 0, 7); }
            pen.fill();
          }
        }
      }
      pen.globalAlpha = 1;
      this.mark();
    }
    mark() {
      const pen = this.top.getContext("2d");
      pen.clearRect(0, 0, this.width, this.height);
      const i = state.hovered;
      if (i >= 0) {
        pen.lineWidth = 2.5; pen.strokeStyle = "#000"; pen.beginPath(); pen.arc(this.px[i], this.py[i], 8, 0, 7); pen.stroke();
        pen.lineWidth = 1.2; pen.strokeStyle = "#fff"; pen.beginPath(); pen.arc(this.px[i], this.py[i], 6.2, 0, 7); pen.stroke();
      }
      if (this.lasso && this.lasso.length > 1) {
        pen.lineWidth = 1.5; pen.strokeStyle = "#d55e00"; pen.fillStyle = "rgba(213,94,0,.08)";
        pen.beginPath();
        for (const [x, y] of this.lasso) pen.lineTo(x, y);
        pen.closePath(); pen.fill(); pen.stroke();
      }
    }
    nearest(x, y, reach = 14) {
      let best = -1, least = reach * reach;
      const across = Math.ceil(reach / 16), column = x >> 4, row = y >> 4;
      for (let a = column - across; a <= column + across; a++) {
        for (let b = row - across; b <= row + across; b++) {
          for (const i of this.cells.get(a * 4096 + b) || []) {
            const d = (this.px[i] - x) ** 2 + (this.py[i] - y) ** 2;
            if (d < least && this.shown(i)) { least = d; best = i; }
          }
        }
      }
      return best;
    }
    step(dx, dy) {  // the nearest sample within 60 degrees of a direction
      const from = state.hovered, x = from < 0 ? this.width / 2 : this.px[from], y = from < 0 ? this.height / 2 : this.py[from];
      let best = -1, least = Infinity;
      for (let i = 0; i < count; i++) {
        if (i === from || !this.shown(i)) continue;
        const ax = this.px[i] - x, ay = this.py[i] - y, far = Math.hypot(ax, ay);
        if (far < least && (from < 0 || ax * dx + ay * dy > 0.5 * far)) { least = far; best = i; }
      }
      if (best >= 0) hover(best);
    }
    listen() {
      const at = (event) => { const box = this.box.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
      this.box.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        this.box.setPointerCapture(event.pointerId);
        const [x, y] = at(event);
        if (event.altKey) this.pan = [x, y]; else this.lasso = [[x, y]];
      });
      this.box.addEventListener("pointermove", (event) => {
        const [x, y] = at(event);
        if (this.pan) {
          this.cx -= (x - this.pan[0]) / this.scale; this.cy += (y - this.pan[1]) / this.scale;
          this.pan = [x, y]; this.draw();
        } else if (this.lasso) {
          this.lasso.push([x, y]); this.mark();
        } else hover(this.nearest(x, y));
      });
      this.box.addEventListener("pointerup", (event) => {
        const [x, y] = at(event), drawn = this.lasso;
        this.pan = this.lasso = null;
        if (!drawn) return;
        const far = drawn.reduce((most, [a, b]) => Math.max(most, Math.hypot(a - drawn[0][0], b - drawn[0][1])), 0);
        const inside = far < 4 ? [this.nearest(x, y)].filter((i) => i >= 0) : this.within(drawn);
        select(inside, event.shiftKey);
      });
      this.box.addEventListener("pointerleave", () => { if (!this.lasso) hover(-1); });
      this.box.addEventListener("wheel", (event) => {
        event.preventDefault();
        const [x, y] = at(event), ox = x - this.width / 2, oy = y - this.height / 2, before = this.scale;
        this.zoom = Math.max(0.6, Math.min(60, this.zoom * Math.exp(-event.deltaY / 400)));
        this.cx += ox / before - ox / this.scale; this.cy -= oy / before - oy / this.scale;
        this.draw();
      }, { passive: false });
      this.box.addEventListener("keydown", (event) => {
        const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (move) { event.preventDefault(); this.step(...move); }
        if (event.key === "Enter" && state.hovered >= 0) select([state.hovered], event.shiftKey);
      });
    }
    within(polygon) {
      const found = [];
      for (let i = 0; i < count; i++) {
        if (!this.shown(i)) continue;
        let inside = false;
        for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
          const [xa, ya] = polygon[a], [xb, yb] = polygon[b];
          if (ya > this.py[i] !== yb > this.py[i] && this.px[i] < ((xb - xa) * (this.py[i] - ya)) / (yb - ya) + xa) inside = !inside;
        }
        if (inside) found.push(i);
      }
      return found;
    }
  }

  const plots = data.views.map((view) => new Plot(view));
  $("maps").append(...plots.map((plot) => plot.figure));
  const redraw = (recolour) => { for (const plot of plots) { if (recolour) plot.recolour(); plot.draw(); } };

  const name = (task, value) => (isNaN(value) ? "–" : task.classes.length ? task.classes[value] ?? String(value) : `${short(value)} ${task.unit}`.trim());
  const thumb = (i, size, tag = "span") => {
    const s = data.sprites, place = s ? s.place[i] : -1;
    if (place < 0) return null;
    const sheet = Math.floor(place / (s.per_row * s.per_row)), rest = place % (s.per_row * s.per_row), k = size / s.side;
    const node = make(tag, { className: "thumb", title: data.ids[i] });
    Object.assign(node.style, {
      width: `${size}px`, height: `${size}px`, backgroundImage: `url(${s.sheets[sheet]})`,
      backgroundSize: `${s.per_row * s.side * k}px auto`,
      backgroundPosition: `-${(rest % s.per_row) * size}px -${Math.floor(rest / s.per_row) * size}px`,
    });
    return node;
  };

  function hover(i) {
    if (i === state.hovered) return;
    state.hovered = i;
    for (const plot of plots) plot.mark();
    const box = $("sample");
    box.dataset.id = i < 0 ? "" : data.ids[i];
    if (i < 0) { box.replaceChildren(make("p", { className: "quiet", textContent: "Point at a sample." })); return; }
    const head = ["", "truth", ...(data.probe ? data.views.map((v) => v.label) : [])];
    const rows = data.tasks.map((task) => {
      const cells = data.probe ? data.views.map((view) => {
        const value = view.predicted[task.name] ? view.predicted[task.name][i] : NaN;
        const wrong = task.classes.length && !isNaN(value) && !isNaN(task.targets[i]) && value !== task.targets[i];
        return make("td", { textContent: name(task, value) + (wrong ? " ✗" : ""), className: wrong ? "wrong" : "" });
      }) : [];
      return make("tr", {}, make("th", { textContent: task.name }), make("td", { textContent: name(task, task.targets[i]) }), ...cells);
    });
    const table = make("table", {}, make("tr", {}, ...head.map((text) => make("th", { textContent: text }))), ...rows);
    const kept = data.views.every((v) => v.kept)
      ? make("p", { className: "quiet", textContent: "neighbours kept: " + data.views.slice(1).map((v) => `${v.label} ${Math.round(100 * v.kept[i])}%`).join(", ") }) : null;
    box.replaceChildren(make("h2", { textContent: data.ids[i] }), ...[thumb(i, 120), table, kept].filter(Boolean));
  }

  function select(indices, add) {
    if (!add) state.selected = new Set();
    for (const i of indices) state.selected.add(i);
    redraw(false);
    const box = $("selection"), chosen = [...state.selected];
    box.dataset.count = String(chosen.length);
    if (!chosen.length) { box.replaceChildren(make("p", { className: "quiet", textContent: "Drag around samples to select them." })); return; }
    const lines = data.tasks.filter((task) => task.classes.length).map((task) => {
      const counts = new Map();
      for (const i of chosen) if (!isNaN(task.targets[i])) counts.set(task.targets[i], (counts.get(task.targets[i]) || 0) + 1);
      const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 3).map(([value, n]) => `${name(task, value)}: ${n}`);
      const scores = data.probe ? data.views.filter((v) => v.predicted[task.name]).map((view) => {
        const known = chosen.filter((i) => !isNaN(task.targets[i]) && !isNaN(view.predicted[task.name][i]));
        const right = known.filter((i) => task.targets[i] === view.predicted[task.name][i]).length;
        return known.length ? `${view.label} ${Math.round((100 * right) / known.length)}%` : null;
      }).filter(Boolean) : [];
      return make("tr", {}, make("th", { textContent: task.name }), make("td", { textContent: most.join(", ") }), make("td", { textContent: scores.join(", ") }));
    });
    const save = make("button", { textContent: "Save ids" });
    save.addEventListener("click", () => {
      const url = URL.createObjectURL(new Blob([chosen.map((i) => data.ids[i]).join("\n") + "\n"], { type: "text/plain" }));
      make("a", { href: url, download: "selection.txt" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    });
    const clear = make("button", { textContent: "Clear" });
    clear.addEventListener("click", () => select([], false));
    const pictures = make("div", { id: "thumbs" });
    for (const i of chosen.slice(0, 120)) {
      const node = thumb(i, 40, "button");
      if (!node) break;
      node.addEventListener("pointerenter", () => hover(i));
      node.addEventListener("focus", () => hover(i));
      pictures.append(node);
    }
    const more = data.sprites && chosen.length > 120 ? make("p", { className: "quiet", textContent: `and ${chosen.length - 120} more` }) : null;
    const head = make("tr", {}, ...["", "most", data.probe ? `right (${data.probe})` : ""].map((text) => make("th", { textContent: text })));
    box.replaceChildren(
      make("h2", { textContent: `${chosen.length} selected` }), save, " ", clear,
      ...(lines.length ? [make("table", {}, head, ...lines)] : []), ...(pictures.childNodes.length ? [pictures] : []), ...(more ? [more] : []),
    );
  }

  function legend() {
    const plot = plots[0], box = $("legend"), task = data.tasks[state.task];
    const title = make("h2", { textContent: state.mode === "moved" ? "Neighbours shared with the other encoder" : task ? `${task.name}: ${MODES[state.mode]}` : "Samples" });
    if (plot.ends) {
      const bar = make("div", { className: "scale" });
      bar.style.background = `linear-gradient(to right, ${plot.colours.join(",")})`;
      box.replaceChildren(title, bar, make("div", { className: "ends" }, ...plot.ends.map((text) => make("span", { textContent: text }))));
      return;
    }
    const counts = new Map();
    for (const bin of plot.bins) counts.set(bin, (counts.get(bin) || 0) + 1);
    const entry = (bin, text, colour) => {
      const swatch = make("i"); swatch.style.background = colour;
      const node = make("button", { className: "entry" }, swatch, make("span", { textContent: text }), make("em", { textContent: String(counts.get(bin) || 0) }));
      const press = () => node.setAttribute("aria-pressed", String(!state.hidden.has(bin)));
      node.dataset.bin = String(bin);
      node.addEventListener("click", (event) => {
        if (event.altKey) { state.hidden = new Set([-1, ...plot.names.keys()].filter((other) => other !== bin)); legend(); }
        else if (!state.hidden.delete(bin)) state.hidden.add(bin);
        press(); redraw(false);
      });
      press();
      return node;
    };
    const entries = plot.names.map((text, bin) => [bin, text]).filter(([bin]) => counts.get(bin)).map(([bin, text]) => entry(bin, text, plot.colours[bin]));
    if (counts.get(-1)) entries.push(entry(-1, "missing", GREY));
    box.replaceChildren(title, ...entries, make("p", { className: "quiet", textContent: "Click hides a class, Alt + click all others." }));
  }

  function show() {
    const modes = modesOf();
    if (!modes.includes(state.mode)) state.mode = "target";
    $("mode").replaceChildren(...modes.map((mode) => make("option", { value: mode, textContent: MODES[mode] })));
    $("mode").value = state.mode; $("task").value = String(state.task);
    state.hidden = new Set();
    redraw(true); legend();
  }
  $("task").append(...data.tasks.map((task, i) => make("option", { value: String(i), textContent: task.name })));
  $("task").addEventListener("change", (event) => { state.task = Number(event.target.value); show(); });
  $("mode").addEventListener("change", (event) => { state.mode = event.target.value; show(); });
  $("find").addEventListener("input", (event) => {
    const text = event.target.value.trim().toLowerCase();
    if (!text) return select([], false);
    const exact = data.ids.findIndex((id) => id.toLowerCase() === text);
    const found = exact >= 0 ? [exact] : data.ids.flatMap((id, i) => (id.toLowerCase().includes(text) ? [i] : []));
    select(found, false);
    hover(found.length ? found[0] : -1);
  });
  const fit = () => { for (const plot of plots) { plot.fit(); plot.draw(); } };
  const help = () => { $("keys").hidden = !$("keys").hidden; $("help").setAttribute("aria-expanded", String(!$("keys").hidden)); };
  $("fit").addEventListener("click", fit);
  $("help").addEventListener("click", help);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { $("find").value = ""; select([], false); hover(-1); return; }
    if (/^(INPUT|SELECT)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey) return;
    if (event.key === "/") { event.preventDefault(); $("find").focus(); }
    if (event.key === "0") fit();
    if (event.key === "?") help();
    if (event.key === "c" && data.tasks.length) { state.task = (state.task + 1) % data.tasks.length; show(); }
    if (event.key === "m") { const modes = modesOf(); state.mode = modes[(modes.indexOf(state.mode) + 1) % modes.length]; show(); }
  });
  show();
  document.body.dataset.ready = "true";
})();
