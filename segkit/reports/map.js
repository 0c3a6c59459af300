// The map of customers: choose a segment to see it alone, circle customers to read what they have in common.
(() => {
  "use strict";
  const GREY_ALPHA = 0.25, ALPHA = 0.75, NEAR = 16, LEAST = 20, GAP = 3, RISE = 4;
  const SPOTS = [[0, -1], [0, 1], [1, 0], [-1, 0], [1, -1], [-1, -1], [1, 1], [-1, 1], [0, -2], [0, 2], [2, -1], [-2, -1], [2, 1], [-2, 1]];
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const make = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const figures = (value) => {
    const size = Math.abs(value);
    const digits = size >= 99.5 || Number.isInteger(value) ? 0 : size >= 1 ? 1 : 2;
    return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  };
  const share = (value) => `${(100 * value).toLocaleString("en", { maximumFractionDigits: value < 0.0095 ? 1 : 0 })}%`;
  const shown = (value, form) => (value === null ? "–" : form === "share" ? share(value)
    : figures(value));

  const start = async (figure) => {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const live = figure.querySelector(".sk-map-live"), keys = figure.querySelector(".sk-map-keys");
    const tools = figure.querySelector(".sk-map-tools"), read = figure.querySelector(".sk-map-read");
    const circle = figure.querySelector(".sk-map-circle"), still = figure.querySelector(".sk-map-still");
    const canvas = live.appendChild(make("div", undefined, "sk-map-canvas"));
    [live, keys, tools, read].forEach((part) => { part.hidden = false; });
    const views = await Bokeh.embed.embed_item(data.item, canvas);
    const plot = (views.roots ? [...views.roots][0] : views).model;
    const lasso = plot.toolbar.tools.find((tool) => tool.type === "LassoSelectTool");
    figure.classList.add("sk-map-on");
    tools.querySelector("a").href = still.src;

    // ---- what is shown -------------------------------------------------------------------------------------------
    let chosen = null, by = "colour";
    const paint = () => {
      const grey = style("--sk-quiet"), ink = style("--sk-ink");
      const counts = plot.renderers.map((one) => one.data_source.selected.indices.length);
      const circled = counts.some((count) => count > 0);
      plot.renderers.forEach((one, at) => {
        const other = chosen !== null && one.name !== chosen;
        const colour = other ? grey : data.segments.find((segment) => segment.id === one.name)[by];
        const alpha = other || (circled && counts[at] === 0) ? (circled ? 0.1 : GREY_ALPHA) : ALPHA;
        one.glyph.fill_color = colour;
        if (one.glyph.marker.value === "plus" || one.glyph.marker.value === "x") one.glyph.line_color = colour;
        one.glyph.fill_alpha = alpha; one.glyph.line_alpha = alpha;
      });
      lasso.overlay.line_color = ink; lasso.overlay.fill_color = grey; lasso.overlay.fill_alpha = 0.12;
      figure.querySelectorAll("button[data-segment]").forEach((button) => {
        button.setAttribute("aria-pressed", String(button.dataset.segment === chosen));
      });
      figure.querySelectorAll(".sk-map-card").forEach((card) => { card.hidden = card.dataset.segment !== chosen || circled; });
      labels.forEach((label) => label.classList.toggle("sk-map-other", chosen !== null && label.dataset.segment !== chosen));
      data.segments.forEach((segment) => {
        const chip = figure.querySelector(`button[data-segment="${segment.id}"] svg`);
        if (chip) chip.setAttribute("fill", segment[by]);
      });
      circle.hidden = !circled;
      read.querySelector(".sk-map-hint").hidden = chosen !== null || circled;
    };
    tools.querySelectorAll("[data-colour]").forEach((button) => button.addEventListener("click", () => {
      by = button.dataset.colour;
      tools.querySelectorAll("[data-colour]").forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
      paint();
    }));
    const unselect = () => plot.renderers.forEach((one) => {
      if (one.data_source.selected.indices.length) one.data_source.selected.indices = [];
    });
    const choose = (segment) => {
      unselect();
      chosen = segment === chosen ? null : segment;
      paint();
    };

    // ---- what was circled: means of the neighbourhoods, weighed by the customers in them ----------------------------
    const tell = () => {
      const inside = plot.renderers.map((one) => [one, one.data_source.selected.indices]);
      const count = inside.reduce((sum, [, rows]) => sum + rows.length, 0);
      const total = plot.renderers.reduce((sum, one) => sum + one.data_source.get_length(), 0);
      circle.replaceChildren();
      if (count === 0) return;
      circle.append(make("p", `${figures(count)} customers circled, ${share(count / total)} of those drawn`, "sk-map-count"));
      if (count < LEAST) {
        circle.append(make("p", `Circle at least ${LEAST} customers: smaller groups are not shown.`));
        return;
      }
      const weight = new Map();
      inside.forEach(([one, rows]) => rows.forEach((row) => {
        const bin = one.data_source.data.bin[row];
        weight.set(bin, (weight.get(bin) || 0) + 1);
      }));
      const names = inside.filter(([, rows]) => rows.length).sort(([, one], [, other]) => other.length - one.length).slice(0, 3);
      const list = circle.appendChild(make("ul", undefined, "sk-map-in"));
      names.forEach(([one, rows]) => {
        const key = figure.querySelector(`button[data-segment="${one.name}"]`);
        const item = list.appendChild(make("li"));
        item.append(...[...key.childNodes].map((node) => node.cloneNode(true)), `: ${share(rows.length / count)}`);
      });
      if (data.profile) circle.append(profile(data.profile, weight));
    };
    const profile = ({ columns, means, everyone }, weight) => {
      const mean = (column) => {
        let sum = 0, of = 0;
        weight.forEach((count, bin) => {
          if (means[bin][column] !== null) { sum += count * means[bin][column]; of += count; }
        });
        return of ? sum / of : null;
      };
      const rows = columns.map((column, at) => ({ ...column, here: mean(at), all: everyone[at] }));
      const needs = rows.filter((row) => row.kind === "need" && row.here !== null && row.here > row.all)
        .sort((one, other) => other.here / (other.all + 0.01) - one.here / (one.all + 0.01)).slice(0, 3);
      const table = make("table", undefined, "sk-map-profile");
      const head = table.createTHead().insertRow();
      ["Mean", "Circled", "All"].forEach((word) => { head.append(Object.assign(make("th", word), { scope: "col" })); });
      const body = table.createTBody();
      [...rows.filter((row) => row.kind !== "need"), ...needs].forEach((row) => {
        const line = body.insertRow();
        line.append(Object.assign(make("th", row.kind === "need" ? `need: ${row.words}` : row.words), { scope: "row" }));
        line.append(make("td", shown(row.here, row.form)), make("td", shown(row.all, row.form)));
      });
      const note = make("p", "Averages over neighbourhoods of at least 20 customers, so that nobody can be singled out.", "sk-id");
      const box = make("div");
      box.append(table, note);
      return box;
    };

    // ---- names on the map: each where it is free, the largest segments first; else its id, else the list has it -----
    const labels = data.segments.map((segment) => {
      const label = live.appendChild(make("span", undefined, "sk-map-label"));
      label.dataset.segment = segment.id;
      label.setAttribute("aria-hidden", "true");
      label.append(make("b", segment.name), make("i", segment.id));
      label.addEventListener("click", () => choose(segment.id));
      return label;
    });
    const place = () => {
      const width = live.clientWidth, height = live.clientHeight, [x0, x1, y0, y1] = data.box, taken = [];
      const free = (box) => box[0] >= 0 && box[1] >= 0 && box[2] <= width && box[3] <= height
        && !taken.some((other) => box[0] < other[2] + GAP && other[0] < box[2] + GAP && box[1] < other[3] + GAP && other[1] < box[3] + GAP);
      labels.forEach((label, at) => {
        const x = (data.segments[at].x - x0) / (x1 - x0) * width, y = (y1 - data.segments[at].y) / (y1 - y0) * height;
        label.hidden = false;
        for (const short of [false, true]) {
          label.classList.toggle("sk-map-short", short);
          const wide = label.offsetWidth, high = label.offsetHeight;
          const spot = SPOTS.map(([right, down]) => [x + right * (wide / 2 + RISE) - wide / 2, y + down * (high / 2 + RISE) - high / 2])
            .map(([left, top]) => [left, top, left + wide, top + high]).find(free);
          if (spot) {
            taken.push(spot);
            label.style.transform = `translate(${spot[0]}px, ${spot[1]}px)`;
            return;
          }
        }
        label.hidden = true;
      });
    };

    // ---- what the hand and the keyboard do --------------------------------------------------------------------------
    const nearest = (x, y) => {
      const scale = [live.clientWidth / (data.box[1] - data.box[0]), live.clientHeight / (data.box[3] - data.box[2])];
      let best = null, least = NEAR;
      plot.renderers.forEach((one) => {
        const { x: xs, y: ys } = one.data_source.data;
        for (let row = 0; row < xs.length; row += 1) {
          const far = Math.hypot((xs[row] - x) * scale[0], (ys[row] - y) * scale[1]);
          if (far < least) { least = far; best = one.name; }
        }
      });
      return best;
    };
    plot.on_event("tap", ({ x, y }) => {
      const segment = nearest(x, y);
      if (segment !== null) choose(segment); else { unselect(); chosen = null; paint(); }
    });
    let waiting = false;
    plot.renderers.forEach((one) => one.data_source.selected.change.connect(() => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; tell(); paint(); });
    }));
    figure.querySelectorAll("button[data-segment]").forEach((button) => {
      button.addEventListener("click", () => choose(button.dataset.segment));
    });
    const draw = tools.querySelector('[data-do="circle"]');
    const drawing = (on) => {
      lasso.active = on;
      draw.setAttribute("aria-pressed", String(on));
      live.style.setProperty("--sk-touch", on ? "none" : "pan-y");
    };
    draw.addEventListener("click", () => drawing(!lasso.active));
    const everything = () => { unselect(); chosen = null; paint(); };
    tools.querySelector('[data-do="all"]').addEventListener("click", everything);
    figure.addEventListener("keydown", (event) => { if (event.key === "Escape") everything(); });
    drawing(!matchMedia("(pointer: coarse)").matches);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
    new ResizeObserver(place).observe(live);
    place();
    paint();
    figure.dataset.ready = "true";
  };

  Bokeh.logger.set_level("error");  // set_log_level would tell of itself
  document.querySelectorAll("figure.sk-map").forEach(start);
})();
