"use strict";
// What the scripts of all pages share. Text reaches a page only through textContent and attributes.
const cspbenchPage = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }
  function draw(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }
  const number = (value, digits = 3) => {
    if (value === null || value === undefined) return "–";
    return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en-US")
      : String(Number(value.toPrecision(digits)));
  };

  // ---- sorting: a head with data-key sorts by it; `valueOf` gives what is compared.
  function sortable(table, valueOf, descendingFirst = new Set()) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const place = new Map(rows.map((row, index) => [row, index]));
    const missing = (value) => value === null || value === undefined || value === "";
    const compare = (key, sign) => (left, right) => {
      const a = valueOf(left, key);
      const b = valueOf(right, key);
      if (missing(a) || missing(b)) return missing(a) - missing(b); // missing ones always last
      const order = typeof a === "number" && typeof b === "number" ? a - b
        : String(a).localeCompare(String(b), "en", { numeric: true });
      return sign * order || place.get(left) - place.get(right);
    };
    function sortBy(head) {
      const key = head.dataset.key;
      const now = head.getAttribute("aria-sort");
      const first = descendingFirst.has(key) ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const next = now === first ? second : first;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", next);
      body.append(...rows.sort(compare(key, next === "ascending" ? 1 : -1)));
    }
    for (const head of table.tHead.rows[0].cells) {
      if (!head.dataset.key) continue;
      const name = head.querySelector(".name") ?? head;
      const button = make("button", { type: "button", class: "sort" }, name.textContent.trim());
      button.addEventListener("click", () => sortBy(head));
      name.replaceChildren(button);
    }
  }

  return { make, draw, number, sortable };
})();
