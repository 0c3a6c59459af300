// Tables whose columns sort: each heading becomes a button, and says how the table is ordered.
(() => {
  "use strict";
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value === "") return NaN;
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim().toLowerCase();
  };
  const missing = (one) => one === "" || one === "–" || Number.isNaN(one);
  const compare = (one, other) => (typeof one === "number" && typeof other === "number" ? one - other
    : String(one).localeCompare(String(other), "en", { numeric: true }));

  const order = (table, column, heading) => {
    const numbers = [...table.tBodies[0].rows].some((row) => "value" in row.cells[column].dataset);
    const before = heading.getAttribute("aria-sort");
    const rising = before ? before === "descending" : !numbers;  // numbers begin with the largest, words with A
    const sign = rising ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
    rows.sort(([one], [other]) => missing(one) - missing(other) || sign * compare(one, other));
    table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };

  document.querySelectorAll(".sk-sort table").forEach((table) => {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => order(table, column, heading));
      heading.append(button);
    });
  });
})();
