// Searches the questions, answers and code. The index is window.searchIndex from search-index.js.
"use strict";

(() => {
  const root = document.currentScript.dataset.root;
  const dialog = document.getElementById("search");
  const input = document.getElementById("words");
  const count = document.getElementById("count");
  const list = document.getElementById("results");
  const weights = { title: 12, asked: 6, text: 2, code: 1 }; // a word counts more in a title than in the code
  const shown = 20;
  const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  let folded = null;

  // Entries that contain all words, the best first.
  function find(words) {
    folded ??= window.searchIndex.map((entry) => Object.fromEntries(Object.keys(weights).map((key) => [key, fold(entry[key])])));
    const scored = [];
    folded.forEach((entry, number) => {
      let total = 0;
      for (const word of words) {
        let score = 0;
        for (const [key, weight] of Object.entries(weights)) {
          const hits = entry[key].split(word).length - 1;
          if (hits) score += weight * (1 + Math.log(hits));
        }
        if (!score) return;
        total += score;
      }
      scored.push([total, window.searchIndex[number]]);
    });
    return scored.sort(([a], [b]) => b - a).map(([, entry]) => entry);
  }

  // Appends `text` to `place`, with the words marked.
  function mark(place, text, words) {
    const parts = text.split(new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi"));
    parts.forEach((part, number) => {
      if (number % 2 === 0) place.append(part);
      else place.append(Object.assign(document.createElement("mark"), { textContent: part }));
    });
  }

  // The piece of an entry around the words, or around the first one, from its answer, question or code.
  function snippet(entry, words) {
    for (const phrase of [words.join(" "), words[0]]) {
      for (const key of ["text", "asked", "code"]) {
        const at = entry[key].toLowerCase().indexOf(phrase);
        if (at < 0) continue;
        const start = Math.max(0, at - 70);
        return (start ? "… " : "") + entry[key].slice(start, at + 110) + " …";
      }
    }
    return entry.asked;
  }

  function show() {
    const words = fold(input.value).split(/\s+/).filter(Boolean);
    list.replaceChildren();
    count.textContent = "";
    if (!words.length) return;
    const found = find(words);
    count.textContent = found.length === 1 ? "1 question" : `${found.length} questions`;
    for (const entry of found.slice(0, shown)) {
      const link = Object.assign(document.createElement("a"), { href: root + entry.href });
      const parts = [["where", entry.sheet], ["title", entry.title], ["snippet", snippet(entry, words)]];
      for (const [name, text] of parts) {
        const span = Object.assign(document.createElement("span"), { className: name });
        mark(span, text, words);
        link.append(span);
      }
      link.addEventListener("click", () => dialog.close());
      const item = document.createElement("li");
      item.append(link);
      list.append(item);
    }
  }

  function open() {
    if (!dialog.open) dialog.showModal();
    input.select();
  }

  document.querySelector(".search-open").addEventListener("click", open);
  input.addEventListener("input", show);
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // Enter would submit the form and close the dialog
    list.querySelector("a")?.click();
  });
  dialog.addEventListener("keydown", (event) => {
    const links = [...list.querySelectorAll("a")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !links.length) return;
    event.preventDefault();
    const next = links.indexOf(document.activeElement) + step;
    (links[next] ?? (next < 0 ? input : links.at(-1))).focus();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  addEventListener("keydown", (event) => {
    const writes = event.target.closest?.("input, textarea, select, [contenteditable]");
    const asks = (event.key === "/" && !writes) || (event.key === "k" && (event.ctrlKey || event.metaKey));
    if (!asks) return;
    event.preventDefault();
    open();
  });
})();
