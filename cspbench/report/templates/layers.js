// The layers of any two profiled cases side by side, by stage and kind.
(() => {
  const form = document.getElementById("layer-pair");
  if (!form) return;
  const { data, make, number } = cspbenchPage;
  const [first, second] = form.querySelectorAll("select");
  const target = document.getElementById("layer-pair-rows");
  const total = document.getElementById("layer-pair-total");

  // Time and MACs of a case by stage and kind; what belongs to no layer has a row of its own.
  function groups(index) {
    const { columns, rows } = data.layer_times[index];
    const [entry, time, macs, kind, stage] = ["entry", "time_ms", "macs", "kind", "stage"].map((name) => columns.indexOf(name));
    const found = new Map();
    for (const row of rows) {
      const label = row[kind] ?? (row[entry] === "(between layers)" ? "between layers" : "not joined to a layer");
      const key = JSON.stringify([row[stage] ?? "", label]);
      const group = found.get(key) ?? { ms: 0, macs: 0 };
      group.ms += row[time] ?? 0;
      group.macs += row[macs] ?? 0;
      found.set(key, group);
    }
    return found;
  }
  const rate = (group) => (group.macs && group.ms ? number((2 * group.macs) / group.ms / 1e6) : "–");
  const signed = (value) => (value < 0 ? "−" : "+") + number(Math.abs(value));
  const cell = (text) => make("td", { class: "num" }, text);

  function compare() {
    const [a, b] = [groups(first.value), groups(second.value)];
    const none = { ms: 0, macs: 0 };
    const pairs = Array.from(new Set([...a.keys(), ...b.keys()]), (key) => [JSON.parse(key), a.get(key) ?? none, b.get(key) ?? none]);
    pairs.sort((left, right) => Math.abs(right[2].ms - right[1].ms) - Math.abs(left[2].ms - left[1].ms));
    target.replaceChildren(...pairs.map(([[stage, kind], one, other]) => make("tr", {},
      make("th", { scope: "row", class: "id" }, stage || "–"), make("td", {}, kind),
      cell(number(one.ms)), cell(number(other.ms)), make("td", { class: "num main" }, signed(other.ms - one.ms)),
      cell(one.macs ? number(one.macs / 1e6) : "–"), cell(other.macs ? number(other.macs / 1e6) : "–"),
      cell(rate(one)), cell(rate(other)))));
    const sum = (found) => Array.from(found.values()).reduce((whole, group) => whole + group.ms, 0);
    total.textContent = `A takes ${number(sum(a), 4)} ms with its profiler, B ${number(sum(b), 4)} ms; largest difference first.`;
  }
  form.addEventListener("input", compare);
  form.addEventListener("submit", (event) => event.preventDefault());
  compare();
})();
