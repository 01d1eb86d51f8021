// Before anything is shown: the theme that was chosen in this browser, else the system's.
document.documentElement.dataset.script = "yes"; // so that what needs scripts is shown
const chosen = localStorage.getItem("wireloom-theme");
if (chosen === "light" || chosen === "dark") {
  document.documentElement.dataset.theme = chosen;
}
