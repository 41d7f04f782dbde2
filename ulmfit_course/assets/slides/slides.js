// Light or dark as the system is, until the key D says otherwise
const dark = matchMedia('(prefers-color-scheme: dark)')
const wear = isDark => document.documentElement.className = isDark ? 'dark' : 'light'
wear(dark.matches)
dark.addEventListener('change', e => wear(e.matches))

// As large as it fits, words beside a picture as large as ever; what would be too small to read is cut off at its end
const end = slide => Math.max(...[...slide.children].map(o => o.offsetTop + o.offsetHeight))
const tooBig = slide => end(slide) > slide.clientHeight - 36 || slide.scrollHeight > slide.clientHeight + 1 ||
  slide.scrollWidth > slide.clientWidth + 1
const fit = slide => {
  slide.classList.remove('cut')
  for (let percent = slide.querySelector('.shown > :is(img, svg)') ? 100 : 135; percent >= 70; percent -= 5) {
    slide.style.setProperty('--fit', percent/100)
    if (!tooBig(slide)) return
  }
  slide.classList.add('cut')
}

const deck = new Reveal({width: 1280, height: 720, margin: 0.02, center: false, display: 'flex', transition: 'none',
  hash: true, slideNumber: 'c/t', plugins: [RevealNotes]})
deck.on('slidechanged', e => fit(e.currentSlide))
deck.on('ready', () => fit(deck.getCurrentSlide()))
deck.on('pdf-ready', () => deck.getSlides().forEach(fit))
deck.addKeyBinding({keyCode: 68, key: 'D', description: 'Light or dark'}, () => wear(!document.documentElement.classList.contains('dark')))
deck.initialize()
