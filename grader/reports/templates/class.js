(() => {
  const table = document.getElementById("submissions"), body = table.tBodies[0], rows = [...body.rows];
  const tools = document.getElementById("tools"), find = document.getElementById("find"), shown = document.getElementById("shown");
  tools.hidden = false;
  const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const texts = rows.map((row) => fold(row.textContent + " " + row.dataset.words));
  const keep = (what) => history.replaceState({ ...history.state, ...what }, "");
  find.addEventListener("input", () => {
    keep({ find: find.value });
    const words = fold(find.value).split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, i) => { row.hidden = !words.every((w) => texts[i].includes(w)); count += !row.hidden; });
    shown.textContent = words.length ? `${count} of ${rows.length}` : "";
  });
  table.querySelectorAll("thead th[data-key]").forEach((head) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending", key = head.dataset.key, index = head.cellIndex;
      table.querySelectorAll("[aria-sort]").forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      keep({ sort: index, down });
      const value = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent;
      const order = key === "number" ? (a, b) => value(a) - value(b) : (a, b) => value(a).localeCompare(value(b));
      body.append(...[...rows].sort((a, b) => (down ? -1 : 1) * order(a, b)));
    });
  });
  // A page of a class that is being graded loads itself again, and is then as it was left.
  const { find: words, sort, down } = history.state ?? {};
  if (words) { find.value = words; find.dispatchEvent(new Event("input")); }
  if (sort !== undefined) {
    const head = table.tHead.rows[0].cells[sort];
    head.setAttribute("aria-sort", down ? "ascending" : "descending");
    head.firstElementChild.click();
  }
  if ("reload" in document.body.dataset) setInterval(() => document.activeElement === find || location.reload(), 15000);
})();
