// Light and dark, contents that follow the reader, copy buttons, and figures that enlarge. Every page works without it.
"use strict";

(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // Storage is refused in private windows and, by some browsers, for pages from disk.
  const remember = (value) => { try { localStorage.setItem("theme", value); } catch { /* only this page changes */ } };
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();

  function theme() {
    const button = document.querySelector(".theme");
    const show = () => {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");
    };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remember(root.dataset.theme);
      show();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    show();
  }

  // Marks the section that is read: the last one whose heading is above the upper quarter of the window.
  function contents() {
    const toc = document.querySelector(".toc");
    if (!toc) return;
    const button = toc.querySelector("button");
    const open = (state) => { toc.classList.toggle("open", state); button.setAttribute("aria-expanded", state); };
    button.addEventListener("click", () => open(!toc.classList.contains("open")));
    const links = [...toc.querySelectorAll("a")];
    const sections = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
    let current = null;
    const follow = () => {
      const read = sections.filter((section) => section.getBoundingClientRect().top < innerHeight / 4).length;
      const link = links[Math.max(read - 1, 0)];
      if (link === current) return;
      current?.removeAttribute("aria-current");
      link.setAttribute("aria-current", "true");
      current = link;
      if (toc.scrollHeight > toc.clientHeight) toc.scrollTo({ top: link.offsetTop - toc.clientHeight / 2 });
    };
    links.forEach((link) => link.addEventListener("click", () => open(false)));
    addEventListener("scroll", () => requestAnimationFrame(follow), { passive: true });
    addEventListener("resize", follow);
    follow();
  }

  // The text of a listing or command, without line numbers.
  function textOf(place) {
    const copy = place.cloneNode(true);
    copy.querySelectorAll(".linenos").forEach((number) => number.remove());
    return copy.textContent.trimEnd();
  }

  async function copyText(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // no permission, or no secure address
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }

  function copyButtons() {
    for (const button of document.querySelectorAll(".copy")) {
      const place = button.closest(".listing, .command").querySelector("[data-copy]");
      button.setAttribute("aria-label", button.closest(".listing") ? "Copy the code" : "Copy the command");
      button.addEventListener("click", async () => {
        await copyText(textOf(place));
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
    }
  }

  function figures() {
    const dialog = document.getElementById("enlarged");
    const image = dialog.querySelector("img");
    for (const link of document.querySelectorAll(".zoom")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        const small = link.querySelector("img");
        image.src = small.src;
        image.alt = small.alt;
        dialog.showModal();
      });
    }
    dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target === image) dialog.close(); });
  }

  // What can be scrolled sideways shows it, and can be reached by keyboard. One pixel may be rounding.
  function scrollers() {
    for (const place of document.querySelectorAll(".scroll, .table, .formula, .long")) {
      const scrolls = place.scrollWidth > place.clientWidth + 1;
      place.classList.toggle("scrolls", scrolls);
      if (scrolls) place.tabIndex = 0;
      else place.removeAttribute("tabindex");
    }
  }

  // On a narrow screen, the bar shows the sheet that is open.
  function sheets() {
    const current = document.querySelector(".sheets [aria-current]");
    if (current) current.parentElement.scrollLeft = current.offsetLeft - current.parentElement.offsetLeft - 16;
  }

  document.addEventListener("DOMContentLoaded", () => {
    theme();
    contents();
    copyButtons();
    figures();
    scrollers();
    sheets();
    for (const event of ["load", "resize"]) addEventListener(event, scrollers);
    document.fonts.ready.then(scrollers); // other fonts make lines longer or shorter
  });
})();
