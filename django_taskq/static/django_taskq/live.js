/* Keeps a page fresh: asks for its fragment every few seconds and puts in what has changed. Nothing depends on it. */
"use strict";
(() => {
    const region = document.getElementById("taskq-region");
    const box = document.getElementById("taskq-live");
    const label = document.getElementById("taskq-live-label");
    const word = document.getElementById("taskq-live-word");
    const told = document.getElementById("taskq-told");
    if (!region || !box || !label || !word || !told || !window.fetch) {
        return;
    }
    const every = Number(region.dataset.every) * 1000;
    const most = 3; // failures in a row, then it stops and says so
    const key = "django_taskq.live";
    let failures = 0;
    let timer = 0;
    let asking = null;

    // What has the focus, or is open, is to be so afterwards.
    const mark = (element) => element && (element.id ? `#${CSS.escape(element.id)}` : element.getAttribute("href"));
    const find = (part, name) =>
        name.startsWith("#") ? part.querySelector(name) : [...part.querySelectorAll("a")].find((one) => one.getAttribute("href") === name);

    const replace = (old, fresh) => {
        if (old.outerHTML === fresh.outerHTML) {
            return;
        }
        const focused = old.contains(document.activeElement) ? document.activeElement : null;
        const name = focused && (mark(focused) || `scroll:${[...old.querySelectorAll(".taskq-scrolls")].indexOf(focused)}`);
        const open = [...old.querySelectorAll("details[open]")].map(mark);
        const places = [...old.querySelectorAll(".taskq-scrolls")].map((one) => [one.scrollLeft, one.scrollTop]);
        old.className = fresh.className;
        for (const attribute of ["data-kind", "data-text"]) {
            if (fresh.hasAttribute(attribute)) {
                old.setAttribute(attribute, fresh.getAttribute(attribute));
            }
        }
        old.replaceChildren(...fresh.childNodes);
        open.forEach((one) => one && find(old, one)?.setAttribute("open", ""));
        const scrolls = [...old.querySelectorAll(".taskq-scrolls")];
        scrolls.forEach((one, index) => places[index] && one.scrollTo(...places[index]));
        if (name) {
            const again = name.startsWith("scroll:") ? scrolls[Number(name.slice(7))] : find(old, name);
            again?.focus({ preventScroll: true });
        }
    };

    const put = (html) => {
        const page = new DOMParser().parseFromString(html, "text/html");
        const parts = [...page.querySelectorAll("[data-part]")];
        const names = (root) => [...root.querySelectorAll("[data-part]")].map((one) => one.dataset.part).join();
        const before = region.querySelector("[data-kind]")?.dataset.kind;
        if (names(page) === names(region)) {
            parts.forEach((fresh) => replace(region.querySelector(`[data-part="${fresh.dataset.part}"]`), fresh));
        } else {
            region.replaceChildren(...page.body.childNodes);
        }
        // Said aloud only when it is something else that is the matter, not when a number in it changes.
        const health = region.querySelector("[data-kind]");
        if (health && health.dataset.kind !== before) {
            told.textContent = health.dataset.text;
        }
    };

    const look = async () => {
        window.clearTimeout(timer);
        if (!box.checked || document.hidden || asking) {
            return;
        }
        asking = new AbortController();
        const patience = window.setTimeout(() => asking?.abort(), 3 * every);
        try {
            const answer = await fetch(region.dataset.url, { credentials: "same-origin", cache: "no-store", redirect: "error", signal: asking.signal });
            const html = answer.ok ? await answer.text() : "";
            if (!html.includes("data-part=")) {
                throw new Error("not a fragment");
            }
            if (box.checked) {
                put(html);
            }
            failures = 0;
        } catch {
            failures += 1;
        }
        window.clearTimeout(patience);
        asking = null;
        if (failures >= most) {
            box.checked = false;
            word.textContent = region.dataset.failed;
        } else {
            timer = window.setTimeout(look, every);
        }
    };

    box.addEventListener("change", () => {
        failures = 0;
        word.textContent = box.checked ? "" : region.dataset.paused;
        try {
            window.sessionStorage.setItem(key, box.checked ? "" : "paused");
        } catch {
            // No storage: the choice lasts as long as the page.
        }
        look();
    });
    document.addEventListener("visibilitychange", look);
    try {
        box.checked = window.sessionStorage.getItem(key) !== "paused";
    } catch {
        box.checked = true;
    }
    word.textContent = box.checked ? "" : region.dataset.paused;
    label.hidden = false;
    timer = window.setTimeout(look, every);
})();
