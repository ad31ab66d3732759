(function () {
  "use strict";

  const root = document.documentElement;
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const byId = (id) => document.getElementById(id);
  const stored = (id) => JSON.parse(byId(id).textContent);

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

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

  // Labels of an axis stay level: on a narrow page every other one, or fewer, from the last one back.
  const LETTER = 7.5, BETWEEN = 12, BESIDE = 140;

  function thin(layout, width) {
    for (const name of Object.keys(layout).filter((each) => each.startsWith("xaxis"))) {
      const { tickvals, ticktext } = layout[name];
      if (!tickvals || !ticktext) continue;
      const widest = Math.max(...ticktext.map((each) => each.length)) * LETTER + BETWEEN;
      const every = Math.ceil((tickvals.length * widest) / Math.max(width - BESIDE, widest));
      const kept = (_, index) => (tickvals.length - 1 - index) % every === 0;
      layout[name].tickvals = tickvals.filter(kept);
      layout[name].ticktext = ticktext.filter(kept);
    }
  }

  function draw(node, dark, width, withData = true) {
    if (!drawings.has(node)) drawings.set(node, JSON.parse(node.nextElementSibling.textContent));
    const drawing = recoloured(drawings.get(node), dark ? themes.colours : {});
    const layout = Object.assign(drawing.layout, { template: dark ? themes.dark : themes.light });
    if (width) layout.width = width;
    thin(layout, width || node.clientWidth);
    Plotly.react(node, withData ? drawing.data : [], layout, settings);
    // The figure's label and the table behind it are what is read aloud, not its loose labels.
    for (const part of node.children) part.setAttribute("aria-hidden", "true");
  }

  const figures = [...document.querySelectorAll(".drawing")];

  function drawAll() {
    for (const node of figures) draw(node, isDark());
  }

  // One figure in two tasks, axes and data: the page stays responsive while a long report is drawn.
  function drawInTurn(remaining, withData = false) {
    if (remaining.length === 0) {
      // Where Plotly measures texts: a picture without a name.
      byId("js-plotly-tester")?.setAttribute("aria-hidden", "true");
      root.dataset.drawn = "true";
      return;
    }
    draw(remaining[0], isDark(), undefined, withData);
    setTimeout(drawInTurn, 0, withData ? remaining.slice(1) : remaining, !withData);
  }

  // ---- Printing -------------------------------------------------------------------------------

  // A4 less the margins of the print style sheet, in CSS pixels, over its zoom of drawings.
  const PRINT_WIDTH = 670 / 0.75;
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

  // ---------------------------------------------------------------------------------------------

  root.addEventListener("themechange", drawAll);
  systemDark.addEventListener("change", drawAll);
  drawInTurn(figures);
})();
