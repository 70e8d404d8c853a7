// What Cockpit around the page does with it: rights, which page is shown, light or dark.

// A page that is loaded anew has the rights that its user has by then: `permission` does so when administrative access is turned on or off.
cockpit.permission({ admin: true });

// While another page of Cockpit is shown, this one is hidden. Of its frame only the page around it is told; `cockpit.hidden` cannot be asked, as it asks
// `document.hidden` itself.
let shown = true;
const tabIsHidden = Object.getOwnPropertyDescriptor(Document.prototype, "hidden").get;
Object.defineProperty(document, "hidden", { get: () => !shown || tabIsHidden.call(document) });
if (frameElement) {
  new parent.IntersectionObserver((changes) => {
    shown = changes.at(-1).isIntersecting;
    document.dispatchEvent(new Event("visibilitychange"));
  }).observe(frameElement);
}

// Light or dark as Cockpit is, where the page keeps what its user has chosen.
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function followTheme() {
  const chosen = localStorage.getItem("shell:style") ?? "auto";
  const theme = chosen === "dark" || (chosen === "auto" && prefersDark.matches) ? "dark" : "light";
  localStorage.setItem("mom-theme", theme);
  document.documentElement.dataset.theme = theme;
  for (const version of ["v5", "v6"]) document.documentElement.classList.toggle(`pf-${version}-theme-dark`, theme === "dark");
}
followTheme();
prefersDark.addEventListener("change", followTheme);
addEventListener("storage", (event) => { if (event.key === "shell:style") followTheme(); });
