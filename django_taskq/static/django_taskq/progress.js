/* An operation's page looks again by itself until the operation is over; loaded with "defer". */
"use strict";
{
    const PAUSE = 1000;

    const shown = () => document.querySelector("[data-taskq-progress]");
    const isMoving = (part) => part !== null && part.dataset.taskqProgress === "moving";

    async function look() {
        if (!document.hidden) {
            try {
                const answer = await fetch(window.location.href, { credentials: "same-origin" });
                const page = new DOMParser().parseFromString(await answer.text(), "text/html");
                const next = page.querySelector("[data-taskq-progress]");
                if (!answer.ok || next === null) {
                    return; // signed out, or gone
                }
                if (!isMoving(next)) {
                    window.location.reload(); // without its button
                    return;
                }
                shown().replaceWith(next);
            } catch {
                // The server will be back.
            }
        }
        window.setTimeout(look, PAUSE);
    }

    if (isMoving(shown())) {
        window.setTimeout(look, PAUSE);
    }
}
