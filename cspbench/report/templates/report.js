// The page is complete without this script; it adds sorting, filtering, hover and case details.
// Text from the run reaches the page only through textContent and attributes, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const table = document.getElementById("case-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  // Two runs may hold the same case: a mark says whose it is, where its figure knows.
  const markOf = (run, id) => JSON.stringify([run, id]);
  const byRun = new Map(data.cases.map((one) => [markOf(one.run, one.id), one]));
  const byId = new Map(data.cases.map((one) => [one.id, one]));
  const marked = (mark) => byRun.get(markOf(mark.dataset.run, mark.dataset.case)) ?? byId.get(mark.dataset.case);
  const marks = Array.from(document.querySelectorAll("svg.figure .mark"), (mark) => [mark, marked(mark)]);
  document.documentElement.classList.add("js");
  cspbenchPage.data = data;

  const { make, draw, number, sortable } = cspbenchPage;
  const caseOf = (row) => data.cases[Number(row.dataset.index)];

  sortable(table, (row, key) => caseOf(row)[key], new Set(["fps", "accuracy"]));

  // ---- filtering
  const form = document.getElementById("filters");
  const search = document.getElementById("f-text");
  const shown = document.getElementById("shown");
  const skipped = document.getElementById("f-skipped"); // none where every case can run
  const selects = Array.from(form.querySelectorAll("select"));
  const texts = data.cases.map((one) => `${one.id} ${one.run} ${one.flags.join(" ")} ${one.reason}`.toLowerCase());
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = selects.filter((select) => select.value).map((select) => [select.dataset.key, select.value]);
    const folds = skipped && !skipped.checked && !wanted.some(([key]) => key === "status");
    let count = 0;
    for (const row of rows) {
      const one = caseOf(row);
      const keep = !(folds && one.outcome === "skipped") && wanted.every(([key, value]) => String(one[key]) === value)
        && words.every((word) => texts[one.index].includes(word));
      if (row.hidden === keep) row.hidden = !keep;
      count += keep;
    }
    shown.textContent = `${count} of ${rows.length}`;
    const visible = new Set(rows.filter((row) => !row.hidden).map(caseOf));
    for (const [mark, one] of marks) mark.setAttribute("opacity", visible.has(one) ? "1" : "0.15");
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  filter();

  // ---- drawings of a case
  function histogram(one) {
    const { low, high, counts } = one.histogram;
    const width = 320, height = 90, base = height - 16;
    const top = Math.max(...counts);
    const step = width / counts.length;
    const bars = counts.map((count, i) => draw("rect", {
      x: (i * step + 0.5).toFixed(1), width: Math.max(step - 1, 0.5).toFixed(1),
      y: (base - (count / top) * (base - 4)).toFixed(1), height: ((count / top) * (base - 4)).toFixed(1),
    }));
    return draw("svg", { class: "hist", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-label": `Distribution of ${one.samples} samples from ${number(low)} to ${number(high)} ms` },
      draw("line", { x1: 0, x2: width, y1: base, y2: base }), ...bars,
      draw("text", { x: 0, y: height - 3 }, `${number(low)} ms`),
      draw("text", { x: width, y: height - 3, "text-anchor": "end" }, `${number(high)} ms`));
  }
  function trace(one) {
    const good = one.launches.filter((launch) => launch.trace && launch.trace.length);
    const values = good.flatMap((launch) => launch.trace);
    const low = Math.min(...values), high = Math.max(...values);
    const width = 320, height = 90, base = height - 16;
    const y = (value) => base - 4 - ((value - low) / (high - low || 1)) * (base - 10);
    let x = 0;
    const each = width / good.length;
    const groups = good.map((launch, i) => {
      x = i * each;
      return draw("g", { class: `a${i % 2}` }, ...launch.trace.map((value, j) => draw("circle", {
        cx: (x + ((j + 0.5) / launch.trace.length) * (each - 4)).toFixed(1), cy: y(value).toFixed(1), r: 1.4 })));
    });
    return draw("svg", { class: "trace", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-label": `Samples in the order of ${good.length} launches` },
      draw("line", { x1: 0, x2: width, y1: base, y2: base }), ...groups,
      draw("text", { x: 0, y: height - 3 }, `${good.length} launches, in order; ${number(low)} to ${number(high)} ms`));
  }

  // ---- hover
  const tip = document.getElementById("tip");
  function showTip(one, x, y) {
    const lines = [make("strong", {}, one.id)];
    if (one.latency_ms === null) lines.push(make("span", {}, `${one.status}: ${one.reason}`));
    else {
      const interval = one.latency_low === null ? "one launch, no interval"
        : `95 % interval ${number(one.latency_low)} to ${number(one.latency_high)} ms`;
      lines.push(make("div", {}, `${number(one.latency_ms, 4)} ms measured, ${interval}`),
        make("div", {}, `${number(one.fps)} fps, ${one.samples} samples in ${one.launches.filter((l) => l.trace).length} launches`));
      if (one.histogram) lines.push(histogram(one));
    }
    tip.replaceChildren(...lines);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(8, y - box.height - 12) : y + 18}px`;
  }
  const hideTip = () => { tip.hidden = true; };
  for (const [mark, one] of marks) {
    mark.querySelector("title")?.remove(); // our own tip replaces the browser's
    if (!one) continue;
    mark.addEventListener("mousemove", (event) => showTip(one, event.clientX, event.clientY));
    mark.addEventListener("mouseleave", hideTip);
    mark.addEventListener("click", () => open(one));
  }
  for (const row of rows) {
    const cell = row.querySelector("svg.spread");
    if (!cell) continue;
    cell.addEventListener("mousemove", (event) => showTip(caseOf(row), event.clientX, event.clientY));
    cell.addEventListener("mouseleave", hideTip);
  }
  addEventListener("scroll", hideTip, { passive: true });

  // ---- case details
  const dialog = document.getElementById("case");
  const title = document.getElementById("case-title");
  const content = dialog.querySelector(".body");
  const keys = (pairs) => make("dl", { class: "keys" }, ...pairs
    .filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== "–")
    .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  function grid(heads, lines, label) {
    const cell = (tag, value) => make(tag, { class: typeof value === "number" ? "num" : "" },
      typeof value === "number" ? number(value, 4) : String(value ?? "–"));
    const kind = (column) => (lines.some((line) => typeof line[column] === "number") ? "num" : "");
    return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
      make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head, i) => make("th", { scope: "col", class: kind(i) }, head)))),
        make("tbody", {}, ...lines.map((line) => make("tr", {}, ...line.map((value) => cell("td", value)))))));
  }
  async function copy(text, button) {
    let done = true;
    try { await navigator.clipboard.writeText(text); } catch {
      const area = make("textarea", { readonly: "" });
      area.value = text;
      dialog.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
    }
    button.textContent = done ? "Copied" : "Select and copy";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }
  function toCopy(heading, id, text) {
    const button = make("button", { type: "button", class: "button" }, "Copy");
    button.addEventListener("click", () => copy(text, button));
    return [make("h3", {}, heading), make("div", { class: "command" }, make("pre", { id }, text), button)];
  }
  function open(one) {
    hideTip();
    title.textContent = one.id;
    const parts = [];
    if (one.reason) parts.push(make("p", {}, make("span", { class: `status ${one.outcome}` }, one.status), ` ${one.reason}`));
    for (const flag of one.flags) {
      const { meaning, remedy } = data.flags[flag];
      parts.push(make("p", {}, make("span", { class: "flag" }, flag), ` ${meaning}. Remedy: ${remedy}.`));
    }
    parts.push(keys([
      ["Latency, ms (measured)", number(one.latency_ms, 4)],
      ["95 % interval, ms", one.latency_low === null ? null : `${number(one.latency_low, 4)} to ${number(one.latency_high, 4)}`],
      [`Ratio to the reference (${one.ratio_of ?? ""})`, one.ratio === null ? null
        : one.ratio_low === null ? number(one.ratio, 4)
        : `${number(one.ratio, 4)} (${number(one.ratio_low, 4)} to ${number(one.ratio_high, 4)})`],
      ["fps (measured)", number(one.fps)], ["90th percentile, ms", number(one.p90_ms, 4)],
      ["99th percentile, ms", number(one.p99_ms, 4)], ["Samples", one.samples ? String(one.samples) : null],
      ["Error against PyTorch", one.max_relative_error === null ? null : one.max_relative_error.toExponential(1)],
      ["BFLOPs (computed)", number(one.bflops)], ["Parameters, M (computed)", number(one.params_m)],
      ...Object.entries(one.metrics).map(([name, value]) => [`${name} (computed)`, number(value)]),
    ]));
    if (one.histogram) {
      parts.push(make("div", { class: "pair" },
        make("div", {}, make("h3", {}, "Distribution of the samples"), histogram(one)),
        make("div", {}, make("h3", {}, "Samples in order"), trace(one))));
    }
    const claim = document.querySelector(`.claims li[data-index="${one.index}"]`);
    if (claim) parts.push(...toCopy("A line to quote", "case-claim", claim.textContent));
    if (one.command) parts.push(...toCopy("Repeat this case", "case-command", one.command));
    if (one.launches.length) {
      parts.push(make("h3", {}, "Launches"), grid(
        ["#", "Job", "Status", "Median, ms", "Samples", "Load, ms", "First, ms", "Warm-up", "Stopped by", "Steal, s", "Others, s"],
        one.launches.map((launch) => [String(launch.number), launch.job, launch.status + (launch.reason ? `: ${launch.reason}` : ""),
          launch.median_ms, launch.samples, launch.load_ms, launch.first_ms, launch.warmup, launch.stop, launch.steal_s, launch.foreign_cpu_s]),
        "Launches"));
      for (const launch of one.launches.filter((each) => each.log)) {
        parts.push(make("h3", {}, `Log of launch ${launch.number}`), make("pre", { class: "log" }, launch.log));
      }
    }
    const published = data.published[one.model_id];
    if (published) parts.push(make("h3", {}, "Published"), grid(["Metric", "Value", "Device", "Source"], published, "Published"));
    const times = data.layer_times[String(one.index)];
    if (times) parts.push(make("h3", {}, "Layer times (measured)"), grid(times.columns, times.rows, "Layer times"));
    const layers = data.layers[one.model_id];
    if (layers) parts.push(make("h3", {}, "Layers (computed)"), grid(layers.columns, layers.rows, "Layers"));
    else if (one.bflops !== null) parts.push(make("p", { class: "soft" }, "The layers of this model are in run.json only."));
    content.replaceChildren(...parts);
    if (!dialog.open) dialog.showModal();
    content.scrollTop = 0;
    history.replaceState(null, "", `#case-${one.index}`);
  }
  document.getElementById("case-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => history.replaceState(null, "", "#cases"));
  for (const row of rows) {
    const name = row.querySelector(".name");
    const button = make("button", { type: "button", class: "open", "aria-haspopup": "dialog" }, ...name.childNodes);
    button.addEventListener("click", () => open(caseOf(row)));
    name.replaceChildren(button);
  }
  const linked = /^#case-(\d+)$/.exec(location.hash);
  if (linked && data.cases[linked[1]]) open(data.cases[linked[1]]);

  // ---- what is folded opens for a link into it, and on paper
  function unfold() {
    const target = document.getElementById(location.hash.slice(1));
    const folded = target?.closest("details");
    if (!folded || folded.open) return;
    folded.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", unfold);
  addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details.explained")) one.open = true; });
  unfold();

  // ---- raw data, printing, the section in view
  const save = document.getElementById("save-json");
  save.hidden = false;
  save.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([JSON.stringify(data)], { type: "application/json" }));
    make("a", { href: url, download: `${data.stem}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  const links = new Map(Array.from(document.querySelectorAll("nav.toc a"), (link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const section of document.querySelectorAll("main > section")) seen.observe(section);
})();
