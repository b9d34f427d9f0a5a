// Keys press buttons, as far as those can be pressed now; some move the picture or walk through the captions.

const BUTTONS = {
  a: "accept", r: "reject", e: "edit", s: "skip", u: "undo", c: "same", ArrowLeft: "back", ArrowRight: "forth",
  "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", 0: "zoom-fit", z: "zoom-region", h: "toggle", "?": "show-help",
};
const STEP = 60;  // pixels
const MOVES = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
const WALKS = { ArrowDown: 1, ArrowUp: -1 };

export function listenForKeys(picture, captions) {
  document.addEventListener("keydown", (event) => {
    const { key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.repeat && /^[a-z]$/.test(key)) return;  // a key held down decides once
    if (event.target.matches("input, textarea") || document.querySelector("dialog[open]")) return;
    const button = BUTTONS[key] && document.getElementById(BUTTONS[key]);
    if (event.shiftKey && MOVES[key]) picture.move(...MOVES[key]);
    else if (WALKS[key]) captions.step(WALKS[key]);
    else if (!button) return;
    else if (!button.disabled) button.click();
    event.preventDefault();
  });
}
