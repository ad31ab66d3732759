// The reader's own weights: the same formula as `pybench.reports.decision`, over the same scores.
(function () {
  "use strict";

  const byId = (id) => document.getElementById(id);
  if (!byId("decision-data")) return;

  const { targets, scores } = JSON.parse(byId("decision-data").textContent);
  const sliders = [...document.querySelectorAll("#decision-table input[type=range]")];
  const boxes = [...document.querySelectorAll("#decision-table input[type=checkbox]")];
  const list = byId("ranking");
  const LINK = /^#decision\/(.+)$/;
  // Where a target is not ranked at first it has no entry yet: every entry is made from the table's heads.
  const names = [...document.querySelectorAll("#decision-table thead th.number")];

  function total(target) {
    const ends = [0, 0, 0];
    let whole = 0;
    for (const [criterion, slider] of sliders.entries()) {
      const weight = Number(slider.value);
      if (weight === 0) continue;
      const score = scores[criterion][target];
      if (score === null) return null;
      whole += weight;
      for (const end of [0, 1, 2]) ends[end] += weight * Math.log(score[end]);
    }
    return whole === 0 ? null : ends.map((sum) => Math.exp(sum / whole));
  }

  function shown(score) {
    if (score >= 0.995) return "1";
    return score < 0.001 ? "< 0.001" : String(Number(score.toPrecision(2)));
  }

  function entry(place, before) {
    const item = document.createElement("li");
    const [swatch, name] = names[place.target].querySelectorAll(".swatch, bdi");
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.setAttribute("aria-hidden", "true");
    const filled = bar.appendChild(document.createElement("span"));
    filled.setAttribute("style", swatch.getAttribute("style"));
    filled.style.width = `${(place.total[1] * 100).toFixed(1)}%`;
    const number = document.createElement("span");
    number.className = "total";
    number.textContent = shown(place.total[1]);
    item.append(swatch.cloneNode(true), " ", name.cloneNode(true), " ", bar, " ", number);
    if (before && place.total[2] >= before.total[0]) {
      const remark = document.createElement("span");
      remark.className = "detail";
      remark.textContent = "not told apart from the one before";
      item.append(" ", remark);
    }
    return item;
  }

  function rank() {
    for (const slider of sliders) slider.parentNode.querySelector("output").textContent = slider.value;
    const places = boxes
      .filter((box) => box.checked)
      .map((box) => ({ target: Number(box.dataset.target), total: total(Number(box.dataset.target)) }))
      .filter((place) => place.total !== null)
      .sort((a, b) => b.total[1] - a.total[1]);
    list.replaceChildren(...places.map((place, index) => entry(place, places[index - 1])));
    return places;
  }

  function changed() {
    const places = rank();
    const first = places.length ? `${targets[places[0].target]} ranks first.` : "No target can be ranked.";
    byId("ranking-status").textContent = `With these weights ${first}`;
    const weights = sliders.map((slider) => `${slider.dataset.criterion}=${slider.value}`);
    try {
      history.replaceState(null, "", `#decision/${weights.join(",")}`);
    } catch (error) {
      // The weights are not in the address then; the ranking stands all the same.
    }
  }

  function follow() {
    const link = LINK.exec(location.hash);
    if (!link) return;
    const wanted = new Map(link[1].split(",").map((pair) => pair.split("=")));
    for (const slider of sliders) {
      if (wanted.has(slider.dataset.criterion)) slider.value = wanted.get(slider.dataset.criterion);
    }
    rank();
    byId("decision").scrollIntoView();
  }

  for (const each of [...sliders, ...boxes]) each.addEventListener("input", changed);
  byId("decision-reset").addEventListener("click", () => {
    for (const slider of sliders) slider.value = slider.defaultValue;
    for (const box of boxes) box.checked = box.defaultChecked;
    changed();
  });
  addEventListener("hashchange", follow);
  follow();
})();
