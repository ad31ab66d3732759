(function () {
  "use strict";

  const root = document.documentElement;
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const byId = (id) => document.getElementById(id);
  const stored = (id) => JSON.parse(byId(id).textContent);

  // ---- Theme ----------------------------------------------------------------------------------

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

  function nameToggle() {
    byId("theme").textContent = isDark() ? "Light theme" : "Dark theme";
  }

  function toggleTheme() {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("pybench-theme", root.dataset.theme);
    } catch (error) {
      // Not remembered, still switched.
    }
    nameToggle();
    drawAll();
  }

  // ---- Figures --------------------------------------------------------------------------------

  const themes = stored("themes");
  const drawings = new Map();
  const settings = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };

  function recoloured(value, colours) {
    if (typeof value === "string") return colours[value] || value;
    if (Array.isArray(value)) {
      return typeof value[0] === "number" ? value : value.map((each) => recoloured(each, colours));
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, recoloured(each, colours)]));
  }

  function draw(node, dark, width) {
    if (!drawings.has(node)) drawings.set(node, JSON.parse(node.nextElementSibling.textContent));
    const drawing = recoloured(drawings.get(node), dark ? themes.colours : {});
    const layout = Object.assign(drawing.layout, { template: dark ? themes.dark : themes.light });
    if (width) layout.width = width;
    Plotly.react(node, drawing.data, layout, settings);
  }

  const figures = [...document.querySelectorAll(".drawing")];

  function drawAll() {
    for (const node of figures) draw(node, isDark());
  }

  // One figure per task: the page stays responsive while a long report is drawn.
  function drawInTurn(remaining) {
    if (remaining.length === 0) {
      root.dataset.drawn = "true";
      return;
    }
    draw(remaining[0], isDark());
    setTimeout(drawInTurn, 0, remaining.slice(1));
  }

  // ---- Printing -------------------------------------------------------------------------------

  const PRINT_WIDTH = 670; // A4 less the margins of the print style sheet, in CSS pixels
  let opened = [];

  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.print:not([open])")];
    for (const each of opened) each.open = true;
    for (const node of figures) draw(node, false, PRINT_WIDTH);
  });
  addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
    drawAll();
  });

  // ---- Every sample ---------------------------------------------------------------------------

  const PAGE = 50;
  const SCALES = {
    s: [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]],
    B: [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]],
  };
  const TEXT_COLUMNS = ["workload", "target", "metric", "unit", "status", "channel", "remarks"];

  function readable(value, unit) {
    if (value === null) return "—";
    const scales = SCALES[unit] || [[1, unit]];
    const [divisor, name] = scales.find(([least]) => Math.abs(value) >= least) || scales[scales.length - 1];
    return `${Number((value / divisor).toPrecision(4))}\u00a0${name}`.trim();
  }

  function readSamples() {
    const { texts, columns } = stored("samples-data");
    const names = Object.keys(columns);
    return columns.order.map((_, index) => {
      const sample = {};
      for (const name of names) {
        const cell = columns[name][index];
        sample[name] = TEXT_COLUMNS.includes(name) ? texts[cell] : cell;
      }
      return sample;
    });
  }

  function setUpSamples() {
    const samples = readSamples();
    const table = byId("samples-table");
    const body = table.tBodies[0];
    const search = byId("samples-search");
    const selects = [...document.querySelectorAll("#samples select")];
    const headers = [...table.tHead.rows[0].cells];
    let sorting = { column: "order", ascending: true };
    let page = 0;
    let found = samples;

    for (const select of selects) {
      const values = [...new Set(samples.map((sample) => sample[select.name]))].sort();
      for (const value of values) select.add(new Option(value, value));
      select.addEventListener("change", update);
    }

    function update() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      found = samples.filter((sample) => {
        if (selects.some((select) => select.value && sample[select.name] !== select.value)) return false;
        if (words.length === 0) return true;
        const text = TEXT_COLUMNS.map((name) => sample[name]).join(" ").toLowerCase();
        return words.every((word) => text.includes(word));
      });
      const { column, ascending } = sorting;
      const sign = ascending ? 1 : -1;
      found.sort((a, b) => sign * compare(a[column], b[column]) || a.order - b.order);
      page = 0;
      show();
    }

    function compare(a, b) {
      if (a === b) return 0;
      if (a === null) return 1;
      if (b === null) return -1;
      return a < b ? -1 : 1;
    }

    function cell(row, text, className) {
      const node = row.insertCell();
      node.textContent = text;
      if (className) node.className = className;
    }

    function show() {
      body.replaceChildren();
      for (const sample of found.slice(page * PAGE, (page + 1) * PAGE)) {
        const row = body.insertRow();
        cell(row, sample.order, "number");
        cell(row, sample.workload);
        cell(row, sample.target);
        cell(row, sample.metric);
        cell(row, readable(sample.value, sample.unit), "number");
        cell(row, sample.status);
        cell(row, sample.repetition, "number");
        cell(row, sample.channel);
        cell(row, readable(sample.resolution, sample.unit), "number");
        cell(row, sample.remarks, "remarks");
      }
      const last = Math.min(found.length, (page + 1) * PAGE);
      const range = found.length ? `Samples ${page * PAGE + 1} to ${last}` : "No sample";
      byId("samples-status").textContent =
        `${range} of ${found.length} found, ${samples.length} in all.`;
      byId("samples-previous").disabled = page === 0;
      byId("samples-next").disabled = last >= found.length;
    }

    function turn(step) {
      page += step;
      show();
      // A disabled button would lose the focus, and a keyboard user the place.
      const other = step > 0 ? "samples-previous" : "samples-next";
      if (byId(step > 0 ? "samples-next" : "samples-previous").disabled) byId(other).focus();
    }

    for (const header of headers) {
      header.querySelector("button").addEventListener("click", () => {
        const column = header.dataset.column;
        sorting = { column, ascending: sorting.column === column ? !sorting.ascending : true };
        for (const each of headers) each.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", sorting.ascending ? "ascending" : "descending");
        update();
      });
    }
    search.addEventListener("input", update);
    byId("samples-previous").addEventListener("click", () => turn(-1));
    byId("samples-next").addEventListener("click", () => turn(1));
    byId("samples-download").addEventListener("click", () => download(found));
    update();
  }

  function download(samples) {
    const names = Object.keys(samples[0] || { order: 0 });
    const quoted = (value) => {
      if (typeof value !== "string") return value === null ? "" : String(value);
      // A spreadsheet takes a text that begins so for a formula.
      const text = /^[=+\-@\t]/.test(value) ? `'${value}` : value;
      return `"${text.replaceAll('"', '""')}"`;
    };
    const lines = [names, ...samples.map((sample) => names.map((name) => quoted(sample[name])))];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
    link.download = `${document.body.dataset.run}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ---------------------------------------------------------------------------------------------

  byId("theme").addEventListener("click", toggleTheme);
  systemDark.addEventListener("change", () => {
    nameToggle();
    drawAll();
  });
  nameToggle();
  setUpSamples();
  drawInTurn(figures);
})();
