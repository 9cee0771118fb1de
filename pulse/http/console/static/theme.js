// Sets the theme before the page is painted. Without a stored choice the system decides.
try {
  const theme = localStorage.getItem("pulse.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // storage is blocked: the system decides
}
