// Two runs beside each other. A ratio is the quotient of two separate latencies; the half widths of
// both intervals on the log scale are joined as the root of the sum of their squares.
(() => {
  const { make, draw, number, sortable } = cspbenchPage;
  const { load, root } = cspbenchSite;
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const selects = { base: document.getElementById("base"), head: document.getElementById("head") };
  const place = document.getElementById("compared");
  const SIGNS = { worse: "▲", better: "▼", same: "=", undecided: "~", unmatched: "∅" };
  const WORDS = {
    worse: "worse", better: "better", undecided: "undecided", same: "the same", unmatched: "not measured on both sides",
  };
  const ORDER = Object.keys(WORDS); // of the rows, too: what needs a look stands first
  const distance = (pair) => (pair.ratio === null ? 0 : Math.abs(Math.log(pair.ratio)));
  const percent = (share) => `${share <= -0.0005 ? "−" : "+"}${(Math.abs(share) * 100).toFixed(1)} %`;

  const milliseconds = (ms) => (ms < 1 ? number(ms) : ms.toFixed(ms < 10 ? 3 : ms < 100 ? 2 : 1));

  // ---- what a pair of latencies says
  function quotient(base, head) {
    const ratio = head.ms / base.ms;
    if (base.low === null || head.low === null) return { ratio, low: null, high: null };
    const half = Math.hypot(Math.log(head.high / head.low) / 2, Math.log(base.high / base.low) / 2);
    return { ratio, low: ratio * Math.exp(-half), high: ratio * Math.exp(half) };
  }
  function decide(one) {
    const most = 1 + settings.allowance;
    if (one.low === null) return "undecided";
    if (one.low > most) return "worse";
    if (one.high < 1 / most) return "better";
    return one.low >= 1 / most && one.high <= most ? "same" : "undecided";
  }
  function pairs(base, head) {
    const old = new Map(base.cases.map((one) => [one.case, one]));
    const now = new Map(head.cases.map((one) => [one.case, one]));
    return Array.from(new Set([...old.keys(), ...now.keys()]), (id) => {
      const [before, after] = [old.get(id), now.get(id)];
      const both = before && after && before.ms !== null && after.ms !== null;
      const change = both ? quotient(before, after) : { ratio: null, low: null, high: null };
      return { id, before, after, ...change, decision: both ? decide(change) : "unmatched" };
    }).sort((a, b) => ORDER.indexOf(a.decision) - ORDER.indexOf(b.decision) || distance(b) - distance(a));
  }

  // ---- conditions
  function flat(facts, prefix = "") {
    return Object.entries(facts).flatMap(([name, value]) =>
      value !== null && typeof value === "object" && !Array.isArray(value)
        ? flat(value, `${prefix}${name}.`) : [[prefix + name, value]]);
  }
  function different(name, old, now) {
    const share = settings.tolerance[name];
    if (share && typeof old === "number" && typeof now === "number") {
      return Math.abs(old - now) > share * Math.max(Math.abs(old), Math.abs(now));
    }
    return JSON.stringify(old ?? null) !== JSON.stringify(now ?? null);
  }
  // A digest tells two builds of one version apart; of two versions, or without one, nothing.
  function otherVersion(name, old, now) {
    if (!name.startsWith("library_digests.")) return false;
    const version = name.replace("library_digests", "libraries");
    return !old.has(name) || !now.has(name) || old.get(version) !== now.get(version);
  }
  function differences(base, head, where = "") {
    const [old, now] = [new Map(flat(base)), new Map(flat(head))];
    return Array.from(new Set([...old.keys(), ...now.keys()]))
      .filter((name) => !otherVersion(name, old, now))
      .filter((name) => !settings.ignored.some((fact) => name === fact || name.startsWith(`${fact}.`)))
      .filter((name) => different(name, old.get(name), now.get(name)))
      .map((name) => [name + where, old.get(name), now.get(name)]);
  }
  function conditions(base, head) {
    const found = differences(base.environment, head.environment);
    for (const board of Object.keys(base.boards).filter((name) => name in head.boards)) {
      found.push(...differences(base.boards[board].environment, head.boards[board].environment, ` on board ${board}`));
    }
    for (const name of Object.keys(base.levels).filter((one) => one in head.levels)) {
      const [old, now] = [base.levels[name], head.levels[name]];
      const apart = name === settings.load.name ? settings.load.apart : settings.clock_apart * old;
      if (Math.abs(old - now) > apart) found.push([name, old, now]);
    }
    for (const [label, key] of [["suite", "suite"], ["cspbench", "cspbench"]]) {
      if (base[key] !== head[key]) found.push([label, base[key], head[key]]);
    }
    return found;
  }
  const written = (value) => (value === null || value === undefined ? "unknown"
    : Array.isArray(value) ? value.join(", ") : String(value));

  // ---- tables
  function grid(label, heads, lines, kind = "scroll") {
    const numeric = (column) => lines.some((line) => typeof line[column] === "number");
    return make("div", { class: kind, tabindex: 0, role: "region", "aria-label": label },
      make("table", {},
        make("thead", {}, make("tr", {}, ...heads.map((head, at) => make("th", { scope: "col", class: numeric(at) ? "num" : null }, head)))),
        make("tbody", {}, ...lines.map((line) => make("tr", {}, ...line.map((value, at) =>
          make("td", { class: numeric(at) ? "num" : null }, typeof value === "number" ? number(value, 4) : value ?? "–")))))));
  }
  function summary(base, head) {
    const row = (name, value) => [name, value(base), value(head)];
    const link = (run) => make("a", { href: `${root}run/${run.key}.html` }, run.name);
    return grid("The two runs", ["Fact", "Base", "Head"], [
      row("Run", link), row("Created", (run) => run.created.slice(0, 16).replace("T", " ")),
      row("Suite", (run) => run.suite),
      row(settings.load.name, (run) => String(run.levels[settings.load.name] ?? "unknown")),
      row("Commit", (run) => (run.environment.git_commit ?? "unknown").slice(0, 12)),
    ], "table conditions");
  }
  function changeCell(pair) {
    if (pair.ratio === null) return make("td", { class: "num", "data-value": "" }, "–");
    return make("td", { class: "num", "data-value": pair.ratio },
      make("span", { class: `change ${pair.decision}` }, make("b", {}, percent(pair.ratio - 1)), ` ${SIGNS[pair.decision]} ${pair.decision}`),
      pair.low === null ? make("span", { class: "under" }, "no interval on both sides") : make("span", { class: "under" }, `${percent(pair.low - 1)} to ${percent(pair.high - 1)}`));
  }
  const latency = (one) => make("td", { class: "num", "data-value": one?.ms ?? "" },
    one && one.ms !== null ? milliseconds(one.ms) : make("span", { class: "soft" }, one ? one.status : "absent"));

  // ---- what a row expands to
  function spark(points) {
    const values = points.map(([, ms]) => ms);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const [width, height] = [320, 60];
    const at = (ms, i) => `${(4 + (i / Math.max(points.length - 1, 1)) * (width - 8)).toFixed(1)} ${(height - 6 - ((ms - low) / (high - low || 1)) * (height - 12)).toFixed(1)}`;
    return draw("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-label": `${points.length} runs from ${number(low)} to ${number(high)} ms, oldest first` },
      draw("path", { class: "line", d: `M${values.map(at).join("L")}` }));
  }
  async function series(pair) {
    const { key } = pair.after ?? pair.before;
    const points = await load(`case/${key}`);
    if (!points) return [];
    const lines = Object.entries(points).map(([machine, { name, rows }]) => make("div", {}, spark(rows),
      make("a", { href: `${root}case/${key}.html#${machine}` }, `${rows.length} run${rows.length === 1 ? "" : "s"} on ${name}`)));
    return [make("h3", {}, "History"), ...lines];
  }
  async function layers(pair, base, head) {
    const sides = await Promise.all([base, head].map(async (run) =>
      (run.has_layers ? (await load(`layers/${run.key}`))?.[pair.id] : null) ?? null));
    if (!sides[0] && !sides[1]) return [make("p", { class: "soft" }, "Neither run timed the layers of this case: measure.layers in the suite does.")];
    const rows = new Map();
    sides.forEach((side, at) => {
      for (const [name, op, ms] of side ?? []) {
        const row = rows.get(name) ?? [name, op, null, null];
        row[2 + at] = (row[2 + at] ?? 0) + ms;
        rows.set(name, row);
      }
    });
    const lines = Array.from(rows.values(), (row) => [...row, row[2] !== null && row[3] !== null ? row[3] - row[2] : null]);
    lines.sort((a, b) => Math.abs(b[4] ?? 0) - Math.abs(a[4] ?? 0));
    return [make("h3", {}, "Layers, largest difference first"),
      grid("Layers", ["Layer", "Operator", "Base, ms", "Head, ms", "Difference, ms"], lines)];
  }
  async function details(pair, base, head) {
    const parts = [];
    for (const [name, one] of [["Base", pair.before], ["Head", pair.after]]) {
      if (one?.reason) parts.push(make("p", { class: "reason" }, `${name}: ${one.status}. ${one.reason}`));
      if (one?.flags.length) parts.push(make("p", {}, `${name}: `, ...one.flags.map((flag) => make("span", { class: "flag" }, flag))));
    }
    parts.push(...await layers(pair, base, head), ...await series(pair));
    const command = (pair.after ?? pair.before).command;
    if (command) parts.push(make("h3", {}, "Repeat this case"), make("pre", { class: "log" }, command));
    parts.push(make("h3", {}, "The same in a terminal"), make("pre", { class: "log" }, `cspbench compare ${base.path} ${head.path}`),
      make("p", { class: "soft" }, "Its interval also allows for what changes on a machine between two runs."));
    return parts;
  }

  // ---- the page
  const runs = [];
  const missing = []; // runs that a link names and this site does not hold
  const state = { base: "", head: "", show: "", text: "", case: "" };
  function remember() {
    const words = Object.entries(state).filter(([, value]) => value).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
    window.history.replaceState(null, "", `#${words.join("&")}`);
  }
  function recall() {
    const words = new URLSearchParams(location.hash.slice(1));
    for (const key of Object.keys(state)) state[key] = words.get(key) ?? "";
    missing.length = 0;
    for (const [key, select] of Object.entries(selects)) {
      // A link may name a run by its directory, too; of two of one name the newest is meant.
      const found = runs.find((run) => run[0] === state[key] || run[1] === state[key]);
      if (state[key] && !found) missing.push(state[key]);
      state[key] = found?.[0] ?? "";
      select.value = state[key];
    }
  }
  async function run(key) {
    const head = await load(`run/${key}`);
    if (!head) return null;
    const rest = await Promise.all(Array.from({ length: head.parts - 1 }, (_, at) => load(`run/${key}.${at + 1}`)));
    const cases = [...head.cases, ...rest.flatMap((part) => part ?? [])];
    return { ...head, cases: cases.map((row) => Object.fromEntries(settings.columns.map((name, at) => [name, row[at]]))) };
  }
  async function show() {
    document.getElementById("newest").hidden = Boolean(state.base && state.head);
    if (!state.base || !state.head) {
      place.replaceChildren(...missing.map((name) => make("p", { class: "empty" }, `This site has no run ${name}.`)));
      return;
    }
    const wanted = [state.base, state.head];
    const [base, head] = await Promise.all(wanted.map(run));
    if (wanted[0] !== state.base || wanted[1] !== state.head) return; // another choice meanwhile
    if (!base || !head) { place.replaceChildren(make("p", { class: "empty" }, "The data of these runs are missing: build the site again.")); return; }
    place.replaceChildren(...compared(base, head));
  }
  function compared(base, head) {
    const all = pairs(base, head);
    const unlike = conditions(base, head);
    const text = make("input", { type: "search", id: "find", autocomplete: "off", spellcheck: "false" });
    text.value = state.text;
    const backend = make("select", { id: "backend" }, make("option", { value: "" }, "all"),
      ...Array.from(new Set(all.map((pair) => (pair.after ?? pair.before).backend))).sort().map((name) => make("option", { value: name }, name)));
    const output = make("output", { "aria-live": "polite" });
    const counts = make("ul", { class: "counts" });
    const column = (name, key, kind) => make("th", { scope: "col", "data-key": key, class: kind }, name);
    const rows = all.map((pair) => {
      const button = make("button", { type: "button", class: "expand id", "aria-expanded": "false" }, pair.id);
      const flags = Array.from(new Set([...(pair.before?.flags ?? []), ...(pair.after?.flags ?? [])]));
      const labels = flags.length ? make("span", { class: "flags" }, ...flags.map((flag) => make("span", { class: "flag" }, flag))) : null;
      const row = make("tr", {}, make("th", { scope: "row" }, button, labels), changeCell(pair), latency(pair.before), latency(pair.after));
      button.addEventListener("click", () => toggle(pair, row, button));
      return row;
    });
    const table = make("table", { id: "case-table" },
      make("thead", {}, make("tr", {}, column("Case", "0"), column("Head to base", "1", "num"), column("Base, ms", "2", "num"), column("Head, ms", "3", "num"))),
      make("tbody", {}, ...rows));
    function close() {
      for (const row of table.querySelectorAll("tr.detail")) row.remove();
      for (const button of table.querySelectorAll("button.expand")) button.setAttribute("aria-expanded", "false");
    }
    async function toggle(pair, row, button) {
      const open = button.getAttribute("aria-expanded") === "true";
      close();
      state.case = open ? "" : pair.id;
      remember();
      if (open) return;
      button.setAttribute("aria-expanded", "true");
      const detail = make("div", {}, "Loading");
      row.after(make("tr", { class: "detail" }, make("td", { colspan: 4 }, detail)));
      detail.replaceChildren(...await details(pair, base, head));
    }
    const alone = all.every((pair) => pair.decision === "unmatched");
    function filter() {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      close();
      let count = 0;
      all.forEach((pair, at) => {
        // What one run did not measure is folded away, unless it is asked for or is all there is.
        const shown = state.show ? pair.decision === state.show
          : pair.decision !== "unmatched" || pair.id === state.case || alone;
        const keep = shown
          && (!backend.value || (pair.after ?? pair.before).backend === backend.value)
          && words.every((word) => `${pair.id} ${pair.after?.flags.join(" ") ?? ""}`.toLowerCase().includes(word));
        rows[at].hidden = !keep;
        count += keep;
      });
      output.textContent = `${count} of ${all.length}`;
      for (const button of counts.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.show === state.show));
    }
    for (const kind of Object.keys(WORDS)) {
      const count = all.filter((pair) => pair.decision === kind).length;
      const button = make("button", { type: "button", "data-show": kind, "aria-pressed": "false" },
        make("b", { class: `count ${kind}` }, String(count)), ` ${SIGNS[kind]} ${WORDS[kind]}`);
      button.addEventListener("click", () => { state.show = state.show === kind ? "" : kind; state.case = ""; filter(); remember(); });
      counts.append(make("li", {}, button));
    }
    const form = make("form", { class: "filters" }, make("label", {}, "Find a case", text), make("label", {}, "Backend", backend), output);
    form.addEventListener("input", () => { state.text = text.value; state.case = ""; filter(); remember(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    const opened = rows[all.findIndex((pair) => pair.id === state.case)];
    filter();
    sortable(table, (row, key) => {
      const cell = row.cells[Number(key)];
      const value = cell.dataset.value ?? cell.textContent;
      return value === "" ? null : key === "0" ? value : Number(value);
    });
    table.tHead.addEventListener("click", close, true); // before the rows move
    opened?.querySelector("button").click();
    return [
      summary(base, head),
      unlike.length
        ? make("div", {}, make("h2", {}, "Not the same conditions"), grid("Conditions that differ", ["Fact", "Base", "Head"],
          unlike.map(([name, old, now]) => [name, written(old), written(now)]), "table conditions"))
        : make("p", { class: "soft" }, "No difference of machine, libraries, load, clocks or suite is known."),
      make("h2", {}, "Cases"), counts, form,
      make("div", { class: "table list", tabindex: 0, role: "region", "aria-label": "Cases of both runs, scrolls sideways on a narrow screen" }, table),
    ];
  }
  async function begin() {
    const parts = await Promise.all(Array.from({ length: settings.parts }, (_, at) => load(`list/${at}`)));
    runs.push(...parts.flatMap((part) => part ?? []));
    for (const select of Object.values(selects)) {
      const groups = new Map();
      for (const [key, name, created, suite, machine] of runs) {
        if (!groups.has(machine)) groups.set(machine, make("optgroup", { label: machine }));
        groups.get(machine).append(make("option", { value: key }, `${created.slice(0, 16).replace("T", " ")}  ${name}${name.includes(suite) ? "" : ` (${suite})`}`));
      }
      select.replaceChildren(make("option", { value: "" }, "choose a run"), ...groups.values());
    }
    recall();
    for (const [key, select] of Object.entries(selects)) {
      select.addEventListener("change", () => { state[key] = select.value; state.case = ""; remember(); show(); });
    }
    document.getElementById("swap").addEventListener("click", () => {
      [state.base, state.head] = [state.head, state.base];
      for (const [key, select] of Object.entries(selects)) select.value = state[key];
      remember();
      show();
    });
    document.getElementById("pick").addEventListener("submit", (event) => event.preventDefault());
    addEventListener("hashchange", () => { recall(); show(); });
    show();
  }
  begin();
})();
