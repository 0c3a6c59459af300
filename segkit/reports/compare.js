// The table of segments: a field that filters it, and two segments side by side. The address #S04-S07 compares these two.
(() => {
  "use strict";
  const MOST = 6;
  const make = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const labelled = (words, control) => {
    const label = make("label", `${words} `);
    label.append(control);
    return label;
  };

  const start = (box) => {
    const rows = [...box.querySelectorAll("tbody tr[data-segment]")];
    if (rows.length < 2) return;
    const row = (id) => rows.find((one) => one.dataset.segment === id);
    const data = box.querySelector("script[type='application/json']");
    const features = data ? JSON.parse(data.textContent) : [];

    // ---- filter --------------------------------------------------------------------------------------------------
    const field = Object.assign(make("input"), { type: "search", placeholder: "name, need or action" });
    const count = make("span", "", "sk-id");
    count.setAttribute("aria-live", "polite");
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((one) => {
        const text = one.textContent.toLowerCase();
        one.hidden = !wanted.every((word) => text.includes(word));
      });
      const shown = rows.filter((one) => !one.hidden).length;
      count.textContent = wanted.length ? `${shown} of ${rows.length} segments` : "";
    });

    // ---- compare -------------------------------------------------------------------------------------------------
    const side = make("div", undefined, "sk-compare");
    side.setAttribute("aria-live", "polite");
    side.hidden = true;
    const choices = ["Compare", "with"].map((words) => {
      const choice = make("select");
      choice.append(new Option("choose a segment", ""));
      rows.forEach((one) => choice.append(new Option(`${one.dataset.segment} ${one.dataset.name}`, one.dataset.segment)));
      return [labelled(words, choice), choice];
    });
    const [first, second] = choices.map(([, choice]) => choice);
    const line = (label, left, right, heads) => {
      const made = make("tr");
      made.append(Object.assign(make("th", label), { scope: "row" }));
      [left, right].forEach((parts, at) => {
        const cell = make("td");
        cell.dataset.label = heads[at];
        cell.append(...parts);
        made.append(cell);
      });
      return made;
    };
    const draw = () => {
      const pair = [first.value, second.value];
      side.replaceChildren();
      side.hidden = !pair.every(row) || pair[0] === pair[1];
      if (side.hidden) return;
      const both = pair.map(row), heads = both.map((one) => one.dataset.name);
      const table = make("table", undefined, "sk-table"), top = table.createTHead().insertRow(), body = table.createTBody();
      top.append(make("td"));
      both.forEach((one) => {
        const head = Object.assign(make("th"), { scope: "col" });
        head.append(...copies(one.cells[0]));
        top.append(head);
      });
      [...both[0].cells].slice(1).forEach((cell, at) => {
        body.append(line(cell.dataset.label, ...both.map((one) => copies(one.cells[at + 1])), heads));
      });
      const apart = (one) => Math.abs(one.effects[pair[0]] - one.effects[pair[1]]);
      features.filter((one) => pair.every((id) => id in one.effects)).sort((one, other) => apart(other) - apart(one))
        .slice(0, MOST).forEach((one) => body.append(line(one.words, ...pair.map((id) => [one.values[id]]), heads)));
      side.append(table);
    };
    const copies = (cell) => [...cell.childNodes].map((node) => node.cloneNode(true));
    const choose = () => {
      if (first.value && second.value) history.replaceState(null, "", `#${first.value}-${second.value}`);
      draw();
    };
    [first, second].forEach((choice) => choice.addEventListener("change", choose));
    const fromAddress = () => {
      const [, one, other] = location.hash.match(/^#(\w+)-(\w+)$/) || [];
      if (!row(one) || !row(other)) return;
      [first.value, second.value] = [one, other];
      draw();
      side.scrollIntoView({ block: "center" });
    };

    const tools = make("p", undefined, "sk-tools");
    tools.append(labelled("Filter", field), count, ...choices.map(([label]) => label));
    box.prepend(tools, side);
    window.addEventListener("hashchange", fromAddress);
    fromAddress();
  };
  document.querySelectorAll(".sk-segments").forEach(start);
})();
