// Every page of a site: sorting, finding, data as scripts, and news while a campaign runs.
// The tables are complete without this script. Text reaches the page only through textContent.
const cspbenchSite = (() => {
  const root = document.documentElement.dataset.root;
  document.documentElement.classList.add("js");

  // ---- sorting and finding in the tables of the page
  const valueOf = (row, key) => {
    const cell = row.cells[Number(key)];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return text === "–" ? null : text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  };
  for (const table of document.querySelectorAll(".list > table")) {
    for (const head of table.tHead.rows[0].cells) {
      if ("sort" in head.dataset) head.dataset.key = head.cellIndex;
    }
    cspbenchPage.sortable(table, valueOf);
  }
  for (const form of document.querySelectorAll("form[data-filter]")) {
    const rows = Array.from(form.nextElementSibling.querySelectorAll("tbody tr"));
    const output = form.querySelector("output");
    form.addEventListener("input", () => {
      const words = form.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        count += !row.hidden;
      }
      output.textContent = `${count} of ${rows.length}`;
    });
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // ---- data: a chunk is a script that hands over one value
  const waiting = new Map();
  const loaded = new Map();
  window.cspbenchData = (name, value) => waiting.get(name)?.(value);
  function load(name, fresh = false) {
    if (!/^[a-z]+(\/[A-Za-z0-9][A-Za-z0-9._-]*)?$/.test(name)) return Promise.resolve(null);
    if (!fresh && loaded.has(name)) return loaded.get(name);
    const promise = new Promise((done) => {
      waiting.set(name, done);
      const script = document.createElement("script");
      script.addEventListener("error", () => done(null));
      script.addEventListener("load", () => { script.remove(); done(null); }); // after the call, if any
      script.src = `${root}data/${name}.js${fresh ? `?${Date.now()}` : ""}`;
      document.head.append(script);
    });
    loaded.set(name, promise);
    return promise;
  }

  // ---- news: a page is never reloaded under a reader's eyes
  const seconds = Number(document.documentElement.dataset.watch);
  if (seconds) {
    let first = null;
    const look = async () => {
      const stamp = JSON.stringify(await load("stamp", true));
      if (first !== null && stamp !== "null" && stamp !== first) {
        const news = document.getElementById("news");
        const button = cspbenchPage.make("button", { type: "button", class: "button" }, "Show them");
        button.addEventListener("click", () => location.reload());
        if (news.hidden) news.replaceChildren("There are new results. ", button);
        news.hidden = false;
      }
      first ??= stamp;
      setTimeout(look, 1000 * seconds);
    };
    look();
  }

  return { load, root };
})();
