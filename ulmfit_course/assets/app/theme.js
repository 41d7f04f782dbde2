// Light or dark: what the visitor chose, else what the system says
const system = matchMedia('(prefers-color-scheme: dark)');
const isDark = () => (localStorage.getItem('theme') ?? (system.matches ? 'dark' : 'light')) == 'dark';
function wear() {
  const dark = isDark();
  for (const link of document.querySelectorAll('link[data-theme]')) link.media = (link.dataset.theme == 'dark') == dark ? 'all' : 'not all';
  document.documentElement.style.colorScheme = dark ? 'dark' : 'light';
  document.body.dataset.jpThemeLight = !dark;
  for (const button of document.querySelectorAll('#theme')) button.textContent = dark ? 'Light' : 'Dark';
}
document.addEventListener('click', e => {
  if (e.target.id != 'theme') return;
  localStorage.setItem('theme', isDark() ? 'light' : 'dark');
  wear();
});
system.addEventListener('change', wear);
wear();
