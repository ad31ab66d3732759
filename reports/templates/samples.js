// The table of samples: found, sorted, turned and downloaded; and links to the samples of one cell.
(function () {
  "use strict";

  const PAGE = 50;
  const TEXTS = ["workload", "target", "metric", "unit", "status", "channel", "remarks"];
  const LINK = /^#samples\/([^/]*)\/([^/]*)\/([^/]*)$/;
  const byId = (id) => document.getElementById(id);
  const scalesOf = JSON.parse(byId("scales").textContent);

  function readable(value, unit) {
    if (value === null) return "—";
    const scales = scalesOf[unit] || [[1, unit]];
    const fits = ([least]) => (value === 0 ? least === 1 : Math.abs(value) >= least);
    const [divisor, name] = scales.find(fits) || scales[scales.length - 1];
    return `${Number((value / divisor).toPrecision(4))}\u00a0${name}`.trim();
  }

  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  function compare(a, b) {
    if (a === b) return 0;
    if (a === null) return 1;
    if (b === null) return -1;
    return a < b ? -1 : 1;
  }

  function setUp({ texts, columns }) {
    const number = columns.order.length;
    const at = (name, index) => (TEXTS.includes(name) ? texts[columns[name][index]] : columns[name][index]);
    const lowered = texts.map((text) => text.toLowerCase());
    const body = byId("samples-table").tBodies[0];
    const search = byId("samples-search");
    const selects = [...document.querySelectorAll("#samples select")];
    const headers = [...byId("samples-table").tHead.rows[0].cells];
    const heads = new Map(headers.map((each) => [each.dataset.column, each.textContent.trim().toLowerCase()]));
    let sorting = { column: "order", ascending: true };
    let page = 0;
    let found = [];

    for (const select of selects) {
      const values = [...new Set(columns[select.name])].map((position) => texts[position]).sort();
      for (const value of values) select.add(new Option(value, value));
      select.addEventListener("change", update);
    }

    function update() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = selects.filter((select) => select.value);
      found = [];
      for (let index = 0; index < number; index += 1) {
        if (wanted.some((select) => at(select.name, index) !== select.value)) continue;
        const hits = (word) => TEXTS.some((name) => lowered[columns[name][index]].includes(word));
        if (words.every(hits)) found.push(index);
      }
      const { column, ascending } = sorting;
      const sign = ascending ? 1 : -1;
      found.sort((a, b) => sign * compare(at(column, a), at(column, b)) || columns.order[a] - columns.order[b]);
      page = 0;
      show();
    }

    function cell(row, text, className) {
      const node = row.insertCell();
      node.textContent = text;
      if (className) node.className = className;
    }

    function show() {
      body.replaceChildren();
      for (const index of found.slice(page * PAGE, (page + 1) * PAGE)) {
        const row = body.insertRow();
        const unit = at("unit", index);
        cell(row, at("order", index), "number");
        cell(row, at("workload", index));
        cell(row, at("target", index));
        cell(row, at("metric", index));
        cell(row, readable(at("value", index), unit), "number");
        cell(row, at("status", index));
        cell(row, at("repetition", index), "number");
        cell(row, at("channel", index));
        cell(row, readable(at("resolution", index), unit), "number");
        cell(row, at("remarks", index), "remarks");
      }
      const last = Math.min(found.length, (page + 1) * PAGE);
      const range = found.length ? `Samples ${page * PAGE + 1} to ${last}` : "No sample";
      const order = `sorted by ${heads.get(sorting.column)}, ${sorting.ascending ? "ascending" : "descending"}`;
      byId("samples-status").textContent = `${range} of ${found.length} found, ${number} in all; ${order}.`;
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

    function follow() {
      const link = LINK.exec(location.hash);
      if (!link) return;
      const [workload, target, metric] = link.slice(1).map(decodeURIComponent);
      const wanted = { workload, target, metric, status: "counted" };
      for (const select of selects) {
        const has = [...select.options].some((option) => option.value === wanted[select.name]);
        select.value = has ? wanted[select.name] : "";
      }
      search.value = "";
      update();
      byId("samples").scrollIntoView();
      search.focus({ preventScroll: true });
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
    byId("samples-download").addEventListener("click", () => download(found, Object.keys(columns), at));
    addEventListener("hashchange", follow);
    document.addEventListener("click", (event) => {
      // The address does not change where the same link is followed again.
      if (event.target.closest("a.drill")?.hash === location.hash) follow();
    });
    update();
    follow();
    document.documentElement.dataset.unpacked = "true";
  }

  function download(found, names, at) {
    const quoted = (value) => {
      if (typeof value !== "string") return value === null ? "" : String(value);
      // A spreadsheet takes a text that begins so for a formula.
      const text = /^[=+\-@\t]/.test(value) ? `'${value}` : value;
      return `"${text.replaceAll('"', '""')}"`;
    };
    const lines = [names, ...found.map((index) => names.map((name) => quoted(at(name, index))))];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
    link.download = `${document.body.dataset.run}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  unpacked(byId("samples-data").textContent).then(setUp, () => {
    byId("samples-status").textContent = "This browser cannot unpack the samples; a newer one can.";
  });
})();
