// Watches a waiting login without reloading, so that a command being copied stays selected.
// Without script the page reloads itself (see login.html); nothing else depends on this file.
"use strict";

const INTERVAL_MS = 2000;
const state = document.getElementById("state");
const copy = document.getElementById("copy");

async function look() {
  try {
    const answer = await fetch(location.pathname + "?state", { cache: "no-store" });
    const { state: now } = await answer.json();
    if (now !== state.dataset.state) {
      location.reload();
      return;
    }
  } catch {
    // the coordinator restarts, or the network is away: the next look tells
  }
  setTimeout(look, INTERVAL_MS);
}

// Browsers offer the clipboard on https and localhost only; elsewhere the command is selected by hand.
if (navigator.clipboard) {
  const command = document.getElementById("command");
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      copy.textContent = "Copied";
    } catch {
      // the browser won't let us: leave the command selected, one key away from being copied
      getSelection().selectAllChildren(command);
    }
  });
}
setTimeout(look, INTERVAL_MS);
