// The explorer draws the curves of the packed tables as SVG.
{
  const LEADING = 6; // methods that are shown first, as in the figures
  const MARGIN = { left: 66, right: 14, top: 12, bottom: 46 };
  const section = document.getElementById("explorer");
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElementNS(document.querySelector("svg").namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const place = (rect, x, y, width, height) => {
    for (const [key, value] of Object.entries({ x, y, width, height })) rect.setAttribute(key, value);
  };

  // --- tables ---------------------------------------------------------------------------------------------------------------
  function parse(text) { // CSV in which an apostrophe protects formulas
    const lines = [[]];
    for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n)/g)) {
      lines.at(-1).push((quoted?.replaceAll('""', '"') ?? plain).replace(/^'/, ""));
      if (end === "\n") lines.push([]);
    }
    lines.pop();
    return lines;
  }
  const number = (text) => (text === "" ? NaN : text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text));
  function curvesOf(text) {
    const [heads, ...lines] = parse(text);
    const curves = new Map();
    for (const line of lines) {
      if (!curves.has(line[0])) curves.set(line[0], { method: line[0], index: line[1], columns: heads.map(() => []) });
      const { columns } = curves.get(line[0]);
      for (let i = 2; i < heads.length; i++) columns[i].push(number(line[i]));
    }
    for (const curve of curves.values()) {
      curve.columns = new Map(heads.map((head, i) => [head, curve.columns[i]]));
    }
    const quantities = heads.filter((head) => head.endsWith(" median")).map((head) => head.slice(0, -" median".length));
    return { curves: [...curves.values()], quantities, axes: Object.keys(AXES).filter((name) => heads.includes(name)) };
  }
  const AXES = { calls: "oracle calls", t: "steps", seconds: "seconds" };

  // --- scales and numbers ---------------------------------------------------------------------------------------------------
  const scale = (log, [low, high], from, to) => {
    const u = log ? Math.log10 : (v) => v;
    const [a, b] = [u(low), u(high)];
    const at = (v) => from + ((u(v) - a) / (b - a)) * (to - from);
    at.back = (pixel) => {
      const w = a + ((pixel - from) / (to - from)) * (b - a);
      return log ? 10 ** w : w;
    };
    return Object.assign(at, { log, low, high, from, to });
  };
  const superscript = (n) => String(n).replace(/[-\d]/g, (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]);
  function short(value, digits = 3) {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "–" : value > 0 ? "∞" : "−∞";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-3 || size >= 1e5)
      ? value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e")
      : size >= 1e3 ? String(Math.round(value)) : String(Number(value.toPrecision(digits)));
    return text.replace("-", "−").replace("e-", "e−");
  }
  function ticks(at, room) {
    const count = Math.max(2, Math.floor(Math.abs(at.to - at.from) / room));
    const decades = at.log ? Math.log10(at.high / at.low) : 0;
    if (decades >= 1) {
      const [first, last] = [Math.ceil(Math.log10(at.low) - 1e-9), Math.floor(Math.log10(at.high) + 1e-9)];
      const step = Math.max(1, Math.ceil((last - first + 1) / count));
      const subs = decades < 2.5 && count > 5 ? [1, 2, 5] : [1];
      const plain = at.low > 5e-4 && at.high < 2e4;
      const marks = [];
      for (let e = first - 1; e <= last; e++) {
        if (step > 1 && e % step !== 0) continue;
        for (const sub of subs) {
          const value = Number(`${sub}e${e}`);
          if (value < at.low * 0.999999 || value > at.high * 1.000001) continue;
          marks.push([value, plain || subs.length > 1 ? short(value) : `10${superscript(e)}`]);
        }
      }
      if (marks.length > 1) return marks;
    }
    const rough = (at.high - at.low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((n) => n * power >= rough * 0.999999) * power;
    const digits = Math.max(3, 1 + Math.ceil(Math.log10(Math.max(Math.abs(at.low), Math.abs(at.high)) / step)));
    const marks = [];
    for (let n = Math.ceil(at.low / step - 1e-9); n * step <= at.high + step * 1e-9; n++) {
      marks.push([n * step, short(n * step, digits)]);
    }
    return marks;
  }

  // --- the state and its drawing ----------------------------------------------------------------------------------------------
  function start() {
    const form = section.querySelector("form"), field = form.elements;
    const canvas = section.querySelector(".canvas"), tip = section.querySelector(".tip");
    const list = section.querySelector(".methods"), clip = document.querySelector("#explorer-clip rect");
    let data = null, shown = new Set(), chosen = false, before = null;
    let view = { x: null, y: null }; // null shows everything
    let axes = null, cross = null; // scales; {x, curve} of the values that are shown

    const svg = canvas.querySelector("svg");
    for (const [key, value] of Object.entries({ tabindex: 0, role: "application", "aria-roledescription": "chart",
      "aria-describedby": "explorer-keys" })) svg.setAttribute(key, value);

    const options = (select, names, labels = names) => {
      const old = select.value;
      select.replaceChildren(...names.map((name, i) => new Option(labels[i], name)));
      if (names.includes(old)) select.value = old;
    };
    const values = (curve, part) => curve.columns.get(`${field.quantity.value} ${part}`);
    const places = (curve) => curve.columns.get(field.axis.value);
    const drawn = () => data.curves.filter((curve) => shown.has(curve.index));

    function extent(curves, pick, log) {
      let [low, high] = [Infinity, -Infinity];
      for (const curve of curves) {
        for (const numbers of pick(curve)) {
          for (const v of numbers) {
            if (Number.isFinite(v) && (!log || v > 0)) [low, high] = [Math.min(low, v), Math.max(high, v)];
          }
        }
      }
      return low > high ? null : [low, high];
    }
    const padded = ([low, high], log, part) => {
      if (log) {
        const room = Math.max((Math.log10(high) - Math.log10(low)) * part, low === high ? 0.5 : 0);
        return [low / 10 ** room, high * 10 ** room];
      }
      const room = (high - low) * part || Math.abs(high) / 2 || 1;
      return [low - room, high + room];
    };
    const full = () => {
      const curves = drawn().length ? drawn() : data.curves;
      const x = extent(curves, (curve) => [places(curve)], field.logx.checked) ?? [1, 10];
      const y = extent(curves, (curve) => ["median", "low", "high"].map((part) => values(curve, part)), field.logy.checked)
        ?? [1, 10];
      return { x: padded(x, field.logx.checked, 0.015), y: padded(y, field.logy.checked, 0.04) };
    };
    // whether a quantity spans enough for a logarithmic axis
    const prefersLog = () => {
      const all = extent(data.curves, (curve) => [values(curve, "median")], false);
      return all !== null && all[0] > 0 && all[1] / all[0] > 30;
    };

    function path(curve, part) {
      const xs = places(curve), ys = values(curve, part);
      let text = "", pen = false;
      for (let i = 0; i < xs.length; i++) {
        const [x, y] = [axes.x(xs[i]), axes.y(ys[i])];
        if (Number.isFinite(x) && Number.isFinite(y)) {
          text += `${pen ? "L" : "M"}${x.toFixed(1)} ${Math.max(-1e4, Math.min(1e4, y)).toFixed(1)}`;
          pen = true;
        } else if (!(axes.x.log && xs[i] <= 0)) {
          pen = false;
        }
      }
      return text;
    }
    function band(curve) { // between the quartiles
      const xs = places(curve), [low, high] = [values(curve, "low"), values(curve, "high")];
      const out = [], back = [];
      for (let i = 0; i < xs.length; i++) {
        const [x, a, b] = [axes.x(xs[i]), axes.y(low[i]), axes.y(high[i])].map((v) => Math.max(-1e4, Math.min(1e4, v)));
        if (![axes.x(xs[i]), axes.y(low[i]), axes.y(high[i])].every(Number.isFinite)) continue;
        out.push(`${x.toFixed(1)} ${b.toFixed(1)}`);
        back.unshift(`${x.toFixed(1)} ${a.toFixed(1)}`);
      }
      return out.length > 1 ? `M${[...out, ...back].join("L")}Z` : "";
    }
    function appearance(index) { // as in the key of the method
      const [line, mark] = document.querySelectorAll(`#key-${CSS.escape(index)} path`);
      return { color: line.style.stroke, dashes: line.getAttribute("stroke-dasharray"), mark: mark.getAttribute("d") };
    }

    function draw() {
      if (!data) return;
      const width = Math.max(280, canvas.clientWidth), height = Math.round(Math.max(300, Math.min(520, width * 0.62)));
      const box = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
      const all = full();
      axes = {
        x: scale(field.logx.checked, view.x ?? all.x, box.left, box.right),
        y: scale(field.logy.checked, view.y ?? all.y, box.bottom, box.top),
      };
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("aria-label", `${field.quantity.value} against ${AXES[field.axis.value]} on ${
        field.problem.selectedOptions[0].text}, ${drawn().length} of ${data.curves.length} methods`);
      const grid = make("g", { class: "grid" }), labels = make("g", { class: "ticks" });
      for (const [value, text] of ticks(axes.x, 76)) {
        const x = axes.x(value);
        grid.append(make("path", { d: `M${x} ${box.top}V${box.bottom}` }));
        labels.append(make("text", { x, y: box.bottom + 18, "text-anchor": "middle" }, text));
      }
      for (const [value, text] of ticks(axes.y, 44)) {
        const y = axes.y(value);
        grid.append(make("path", { d: `M${box.left} ${y}H${box.right}` }));
        labels.append(make("text", { x: box.left - 8, y: y + 4, "text-anchor": "end" }, text));
      }
      labels.append(
        make("text", { class: "title", x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" },
          AXES[field.axis.value]),
        make("text", { class: "title", transform: `translate(13 ${(box.top + box.bottom) / 2}) rotate(-90)`,
          "text-anchor": "middle" }, field.quantity.value),
      );
      const curves = make("g", { "clip-path": "url(#explorer-clip)" });
      for (const curve of drawn().reverse()) { // the best on top
        const style = appearance(curve.index), part = make("g", { class: "curve", "data-method": curve.index });
        const d = path(curve, "median");
        part.append(
          make("path", { class: "band", d: band(curve), style: `fill: ${style.color}` }),
          make("path", { class: "line", d, style: `stroke: ${style.color}`, "stroke-dasharray": style.dashes ?? "none" }),
        );
        let last = -1e9;
        const room = 90, offset = ((Number(curve.index) % 7) / 7) * room;
        const points = [...d.matchAll(/[ML](\S+) ([^ML]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);
        points.forEach(([x, y], i) => {
          const due = x - last >= room && (last > 0 || x >= box.left + offset || i === points.length - 1);
          if (!due || x < box.left) return;
          last = x;
          part.append(make("path", { class: "mark", d: style.mark, style: `fill: ${style.color}`,
            transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(6.5)` }));
        });
        curves.append(part);
      }
      place(clip, box.left, box.top, box.right - box.left, box.bottom - box.top);
      svg.replaceChildren(
        grid, curves, make("path", { class: "frame", d: `M${box.left} ${box.top}V${box.bottom}H${box.right}` }), labels,
        make("path", { class: "cross" }), make("circle", { class: "dot", r: 5 }), make("rect", { class: "lasso" }),
      );
      section.querySelector(".heading").textContent = `${field.quantity.value}: ${field.problem.selectedOptions[0].text}`;
      field.reset.disabled = view.x === null && view.y === null;
      showPicked();
      showValues();
    }

    function legend() {
      list.replaceChildren(...data.curves.map((curve) => {
        const item = document.createElement("li"), button = document.createElement("button");
        const only = document.createElement("button"), name = document.createElement("bdi");
        const value = document.createElement("span"), key = make("svg", { class: "key", "aria-hidden": "true" });
        key.append(make("use", { href: `#key-${curve.index}` }));
        name.textContent = name.title = curve.method;
        value.className = "value";
        button.type = only.type = "button";
        button.className = "toggle";
        button.dataset.method = curve.index;
        button.append(key, name, value);
        only.className = "only";
        only.textContent = "only";
        only.setAttribute("aria-label", `only ${curve.method}`);
        only.dataset.index = curve.index;
        item.append(button, only);
        return item;
      }));
      pressed();
    }
    function pressed() {
      for (const button of list.querySelectorAll(".toggle")) {
        button.setAttribute("aria-pressed", String(shown.has(button.dataset.method)));
      }
    }
    function show(indices, touched = true) {
      shown = new Set(indices);
      chosen = touched;
      pressed();
      draw();
    }
    const allMethods = () => data.curves.map((curve) => curve.index);
    const leaders = () => allMethods().slice(0, data.curves.length <= LEADING + 2 ? undefined : LEADING);
    function only(index) {
      const alone = shown.size === 1 && shown.has(index);
      if (!alone) before = new Set(shown);
      show(alone ? before ?? allMethods() : [index]);
    }

    // --- showing values ----------------------------------------------------------------------------------------------------------
    function nearest(curve, x) { // index of the checkpoint closest to x, in pixels
      const xs = places(curve);
      let [low, high] = [0, xs.length - 1];
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (!(axes.x(xs[middle]) > x)) low = middle; else high = middle;
      }
      return Math.abs(axes.x(xs[high]) - x) < Math.abs(axes.x(xs[low]) - x) ? high : low;
    }
    function curveAt(x, y) {
      let [best, distance] = [null, 28];
      for (const curve of drawn()) {
        const i = nearest(curve, x), xs = places(curve), ys = values(curve, "median");
        for (const k of [i - 1, i]) { // the segments on both sides of the checkpoint
          const a = [axes.x(xs[Math.max(k, 0)]), axes.y(ys[Math.max(k, 0)])];
          const b = k + 1 < xs.length ? [axes.x(xs[k + 1]), axes.y(ys[k + 1])] : a;
          if (![...a, ...b].every(Number.isFinite)) continue;
          const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
          const along = dx || dy ? Math.max(0, Math.min(1, ((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy))) : 0;
          const away = Math.hypot(x - a[0] - along * dx, y - a[1] - along * dy);
          if (away < distance) [best, distance] = [curve, away];
        }
      }
      return best;
    }
    function showValues() { // at the cross
      const line = svg.querySelector(".cross"), dot = svg.querySelector(".dot");
      const on = cross !== null && axes !== null && drawn().length > 0;
      for (const button of list.querySelectorAll(".toggle")) {
        const curve = data.curves.find((c) => c.index === button.dataset.method);
        button.querySelector(".value").textContent =
          on && shown.has(curve.index) ? short(values(curve, "median")[nearest(curve, cross.x)]) : "";
      }
      line.setAttribute("d", on ? `M${cross.x} ${axes.y.to}V${axes.y.from}` : "");
      const curve = on && cross.curve && shown.has(cross.curve.index) ? cross.curve : null;
      dot.style.display = curve ? "" : "none";
      tip.hidden = !curve;
      if (!curve) return;
      const i = nearest(curve, cross.x), [low, mid, high] = ["low", "median", "high"].map((part) => values(curve, part)[i]);
      const at = [axes.x(places(curve)[i]), axes.y(mid)];
      dot.setAttribute("cx", at[0]);
      dot.setAttribute("cy", at[1]);
      dot.style.fill = appearance(curve.index).color;
      const name = document.createElement("b");
      name.textContent = curve.method;
      const text = document.createElement("span");
      text.textContent = `${short(mid)} after ${short(places(curve)[i])} ${AXES[field.axis.value]}`;
      const range = document.createElement("span");
      range.textContent = `quartiles ${short(low)} to ${short(high)}`;
      tip.replaceChildren(name, text, range);
      const ratio = svg.clientWidth / svg.viewBox.baseVal.width, right = at[0] > (axes.x.from + axes.x.to) / 2;
      const room = canvas.clientWidth - tip.offsetWidth;
      tip.style.left = `${Math.max(0, Math.min(room, at[0] * ratio + (right ? -tip.offsetWidth - 14 : 14)))}px`;
      tip.style.top = `${Math.max(0, Math.min(svg.clientHeight - tip.offsetHeight, at[1] * ratio - tip.offsetHeight - 10))}px`;
    }
    function select(to) {
      cross = to;
      hovered = cross?.curve?.index ?? null;
      pick();
      showValues();
    }

    // --- zooming ------------------------------------------------------------------------------------------------------------
    function zoom(along, from, to) { // to an interval in pixels
      const at = axes[along], all = full()[along];
      const ends = [at.back(from), at.back(to)].sort((a, b) => a - b);
      const next = [Math.max(ends[0], all[0]), Math.min(ends[1], all[1])];
      const u = at.log ? Math.log10 : (v) => v;
      const part = (u(next[1]) - u(next[0])) / (u(all[1]) - u(all[0]));
      if (!(part > 1e-6)) return; // limited by the precision of numbers
      view[along] = part > 0.999 ? null : next;
    }
    function zoomAbout(x, y, factor) {
      for (const [along, center] of [["x", x], ["y", y]]) {
        const { from, to } = axes[along];
        zoom(along, center + (from - center) * factor, center + (to - center) * factor);
      }
      draw();
    }
    function move(along, part) {
      if (!view[along]) return;
      const { from, to, low, high, log } = axes[along], all = full()[along];
      const u = log ? Math.log10 : (v) => v, room = u(high) - u(low);
      let shift = part * room;
      shift = Math.max(u(all[0]) - u(low), Math.min(u(all[1]) - u(high), shift));
      const pixels = (shift / room) * (to - from);
      zoom(along, from + pixels, to + pixels);
      draw();
    }
    function reset() {
      view = { x: null, y: null };
      draw();
    }
    const position = (event) => { // of an event, in units of the drawing
      const box = svg.getBoundingClientRect(), ratio = svg.viewBox.baseVal.width / box.width;
      return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    };
    const clampTo = (at, v) => Math.max(Math.min(at.from, at.to), Math.min(Math.max(at.from, at.to), v));
    const fingers = new Map();
    let drag = null, pinch = null;
    const lasso = () => { // the selected box; null for an axis along which it is flat
      const [x, y] = [0, 1].map((i) => [drag.from[i], drag.to[i]].sort((a, b) => a - b));
      const [wide, high] = [x[1] - x[0] > 14, y[1] - y[0] > 14];
      return { x: wide ? x : null, y: high ? y : null };
    };
    function showLasso() {
      const rect = svg.querySelector(".lasso"), box = drag && lasso();
      const on = Boolean(box && (box.x || box.y));
      const [x, y] = on ? [box.x ?? [axes.x.from, axes.x.to], box.y ?? [axes.y.to, axes.y.from]] : [[0, 0], [0, 0]];
      place(rect, x[0], y[0], x[1] - x[0], y[1] - y[0]);
    }
    const fingerSpan = () => {
      const [a, b] = [...fingers.values()];
      return { x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2, size: Math.max(20, Math.hypot(a[0] - b[0], a[1] - b[1])) };
    };
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !axes) return;
      svg.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, position(event));
      pinch = fingers.size === 2 ? fingerSpan() : null;
      const [x, y] = position(event), at = [clampTo(axes.x, x), clampTo(axes.y, y)];
      drag = fingers.size === 1 ? { from: at, to: at } : null;
      showLasso();
    });
    svg.addEventListener("pointermove", (event) => {
      if (!axes) return;
      const [x, y] = position(event);
      if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [x, y]);
      if (pinch && fingers.size === 2) {
        const next = fingerSpan();
        zoomAbout(next.x, next.y, pinch.size / next.size);
        pinch = next;
        return;
      }
      if (drag) {
        drag.to = [clampTo(axes.x, x), clampTo(axes.y, y)];
        showLasso();
      }
      select({ x: clampTo(axes.x, x), curve: drag ? null : curveAt(x, y) });
    });
    const release = (event) => {
      fingers.delete(event.pointerId);
      pinch = null;
      const box = drag && event.type === "pointerup" ? lasso() : null;
      const tap = drag && box && !box.x && !box.y;
      drag = null;
      showLasso();
      if (tap) select({ x: clampTo(axes.x, position(event)[0]), curve: curveAt(...position(event)) });
      if (!box || tap) return;
      if (box.x) zoom("x", ...box.x);
      if (box.y) zoom("y", ...box.y);
      draw();
    };
    svg.addEventListener("pointerup", release);
    svg.addEventListener("pointercancel", release);
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") select(null); });
    svg.addEventListener("dblclick", reset);
    let scrolled = -1e9; // scrolling of the page continues over the chart
    document.addEventListener("wheel", (event) => {
      if (!event.defaultPrevented) scrolled = performance.now();
    }, { passive: true });
    svg.addEventListener("wheel", (event) => {
      const scrolling = performance.now() - scrolled < 250 && !event.ctrlKey;
      const out = event.deltaY > 0 && !view.x && !view.y && !event.ctrlKey;
      if (scrolling || out || !event.deltaY) return;
      event.preventDefault();
      const turns = event.deltaY * (event.deltaMode === 1 ? 30 : 1) * (event.ctrlKey ? 4 : 1);
      const [x, y] = position(event);
      zoomAbout(clampTo(axes.x, x), clampTo(axes.y, y), Math.exp(Math.max(-240, Math.min(240, turns)) * 0.0018));
      select({ x: clampTo(axes.x, x), curve: curveAt(x, y) });
    }, { passive: false });
    svg.addEventListener("keydown", (event) => {
      const { key } = event, curves = drawn();
      if (event.ctrlKey || event.metaKey || event.altKey || !axes || !curves.length) return;
      const curve = cross?.curve && shown.has(cross.curve.index) ? cross.curve : curves[0];
      const i = cross ? nearest(curve, cross.x) : 0, xs = places(curve);
      const center = [axes.x(xs[i]), axes.y(values(curve, "median")[i])];
      const about = center.every(Number.isFinite) ? center : [(axes.x.from + axes.x.to) / 2, (axes.y.from + axes.y.to) / 2];
      const sideways = { ArrowLeft: -1, ArrowRight: 1 }[key], upwards = { ArrowUp: 1, ArrowDown: -1 }[key];
      if (event.shiftKey && sideways) move("x", sideways / 5);
      else if (event.shiftKey && upwards) move("y", upwards / 5);
      else if (sideways) {
        const next = cross ? Math.max(0, Math.min(xs.length - 1, i + sideways)) : 0;
        select({ x: clampTo(axes.x, axes.x(xs[next])), curve });
      } else if (upwards) {
        const next = curves[(curves.indexOf(curve) - upwards + curves.length) % curves.length];
        select({ x: cross?.x ?? axes.x.from, curve: next });
      } else if (key === "+" || key === "=") zoomAbout(...about, 1 / 1.5);
      else if (key === "-") zoomAbout(...about, 1.5);
      else if (key === "0") reset();
      else return;
      event.preventDefault();
    });
    svg.addEventListener("blur", () => select(null));

    // --- controls -----------------------------------------------------------------------------------------------------------
    async function load() {
      const name = field.problem.value;
      const text = await unpack(name);
      if (name !== field.problem.value) return; // the problem has changed meanwhile
      data = curvesOf(text);
      section.querySelector(".download").dataset.table = name;
      options(field.quantity, data.quantities);
      options(field.axis, data.axes, data.axes.map((axis) => AXES[axis]));
      view = { x: null, y: null };
      cross = null;
      if (!chosen || !allMethods().some((index) => shown.has(index))) [shown, chosen] = [new Set(leaders()), false];
      field.logx.checked = true;
      field.logy.checked = prefersLog();
      legend();
      draw();
    }
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", ({ target }) => {
      cross = null;
      if (target === field.problem) load();
      else {
        if (target === field.quantity) [view.y, field.logy.checked] = [null, prefersLog()];
        if (target === field.axis || target === field.logx) view.x = null;
        if (target === field.logy) view.y = null;
        draw();
      }
    });
    field.reset.addEventListener("click", reset);
    section.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button || !data) return;
      const index = button.dataset.method ?? button.dataset.index;
      if (button.name === "all") show(allMethods());
      else if (button.name === "none") show([]);
      else if (button.name === "leading") show(leaders(), false);
      else if (button.className.startsWith("only") || (index && (event.shiftKey || event.altKey))) only(index);
      else if (index) show(allMethods().filter((other) => shown.has(other) !== (other === index)));
    });
    new ResizeObserver(() => draw()).observe(canvas);
    load();
  }
  if (section && "DecompressionStream" in window) start();
}
