"use strict";
// Sorting only: without this script the page shows all the same.
const missing = (text) => text === "" || text === "-";
const number = (text) => Number(text.replaceAll(",", ""));

function compare(first, second) {
  const numbers = [number(first), number(second)];
  return numbers.some(Number.isNaN) ? first.localeCompare(second) : numbers[0] - numbers[1];
}

function sort(table, heading) {
  const column = heading.cellIndex;
  const descending = heading.ariaSort ? heading.ariaSort === "ascending" : heading.classList.contains("n");
  for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const text = (row) => row.cells[column].textContent.trim();
  const sorted = [...body.rows].sort((first, second) => {
    const [own, other] = [text(first), text(second)];
    if (missing(own) || missing(other)) return missing(own) - missing(other);
    return descending ? compare(other, own) : compare(own, other);
  });
  body.append(...sorted);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.querySelectorAll("thead tr:last-child th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
  }
}
