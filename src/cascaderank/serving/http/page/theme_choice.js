// The switch of colours: those of the system, light or dark.

const KEY = "cascaderank-theme";

/** Let the radio buttons of a fieldset choose the colours. */
export function themeChoice(fieldset) {
  const root = document.documentElement;
  const current = root.dataset.theme ?? "system";
  for (const input of fieldset.querySelectorAll("input")) {
    input.checked = input.value === current;
    input.addEventListener("change", () => choose(root, input.value));
  }
}

function choose(root, theme) {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // storage is switched off: the choice is for this page alone
  }
}
