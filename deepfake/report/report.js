"use strict";
const MOST_OPENED_FOR_PRINT = 50; // videos; more would be hundreds of pages
const rows = Array.from(document.querySelectorAll("tbody.video"));
const fold = (text) => text.normalize("NFKC").toLowerCase();
const texts = rows.map((row) => fold(row.querySelector(".name").textContent + " " + (row.dataset.reason || "")));
const search = document.getElementById("search");
const verdict = document.getElementById("verdict");
const outcome = document.getElementById("outcome"); // only with labels
const shown = document.getElementById("shown");
const open = document.getElementById("open");

function filterRows() {
  const words = fold(search.value).split(/\s+/).filter(Boolean);
  let number = 0;
  rows.forEach((row, index) => {
    const fits =
      (!verdict.value || row.dataset.verdict === verdict.value) &&
      (!outcome || !outcome.value || row.dataset.outcome === outcome.value) &&
      words.every((word) => texts[index].includes(word));
    row.hidden = !fits;
    number += fits;
  });
  shown.textContent = `${number} of ${rows.length} videos shown`;
}

function shownDetails() {
  return rows.filter((row) => !row.hidden).flatMap((row) => Array.from(row.querySelectorAll("details")));
}

function showTarget() {
  const row = document.getElementById(location.hash.slice(1));
  if (!row || !rows.includes(row)) return;
  if (row.hidden) {
    search.value = verdict.value = "";
    if (outcome) outcome.value = "";
    filterRows();
  }
  row.querySelectorAll("details").forEach((details) => { details.open = true; });
  row.scrollIntoView();
}

if (search) {
  search.addEventListener("input", filterRows);
  [verdict, outcome].forEach((select) => select && select.addEventListener("change", filterRows));
  open.addEventListener("click", () => {
    const all = shownDetails();
    const close = all.every((details) => details.open);
    all.forEach((details) => { details.open = !close; });
  });
  let openedForPrint = [];
  addEventListener("beforeprint", () => {
    const closed = shownDetails().filter((details) => !details.open);
    openedForPrint = closed.length <= MOST_OPENED_FOR_PRINT ? closed : [];
    openedForPrint.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => openedForPrint.forEach((details) => { details.open = false; }));
  addEventListener("hashchange", showTarget);
  document.getElementById("controls").hidden = false;
  filterRows(); // a browser keeps what was typed before a reload
  showTarget();
}
