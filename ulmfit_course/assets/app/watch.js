// Whether the visitor still has a place, and the server still answers; who leaves gives the place back
const told = id => document.getElementById(id);
const {baseUrl, kernelId} = JSON.parse(told('jupyter-config-data').textContent);
async function look() {
  const status = await fetch(`${baseUrl}api/kernels/${kernelId}`).then(r => r.status, () => 0);
  const [gone, away] = [status == 404, status == 0];
  if (away && !told('away').open) told('away').showModal();
  if (!away) told('away').close();
  if (gone) { told('gone').showModal(); clearInterval(looking); }
}
const looking = setInterval(look, 10_000);
document.addEventListener('visibilitychange', () => document.hidden || told('gone').open || look());
addEventListener('pagehide', () => {
  const form = new FormData();
  form.append('_xsrf', document.cookie.match(/(?:^|; )_xsrf=([^;]+)/)?.[1] ?? '');
  navigator.sendBeacon(`${baseUrl}voila/api/shutdown/${kernelId}`, form);
});
addEventListener('pageshow', e => e.persisted && location.reload());
