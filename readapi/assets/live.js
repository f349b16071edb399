// Keeps a page up to date. What the page shows comes from the server: when the server tells of news, the parts marked
// data-live are fetched and put in place of the old ones. Without this script the page works as well; it only does
// not move by itself.

const root = document.documentElement
const address = document.body.dataset.events

localise(document)
if (address) follow(address)

// localise writes times as the reader's own clock and language would.
function localise(within) {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })
  for (const time of within.querySelectorAll('time[datetime]')) {
    const at = new Date(time.dateTime)
    time.title = time.textContent.trim()
    time.textContent = format.format(at)
  }
}

// follow listens to a stream of events and resumes it wherever it breaks off. A page that nobody looks at lets go of its
// connection, of which browsers allow few.
function follow(address) {
  let source, retry
  let last = ''

  const open = () => {
    close()
    const url = new URL(address, location.href)
    if (last) url.searchParams.set('after', last)
    source = new EventSource(url)
    source.onopen = () => { root.dataset.live = 'on' }
    source.onmessage = event => {
      last = event.lastEventId
      tell(JSON.parse(event.data))
    }
    source.onerror = () => {
      root.dataset.live = 'off'
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, 3000) // the server refused: ask again
    }
  }
  const close = () => {
    clearTimeout(retry)
    source?.close()
    delete root.dataset.live
  }
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return close()
    refresh()
    open()
  })
  addEventListener('pagehide', close)
  addEventListener('pageshow', event => { if (event.persisted) open() })
  open()
}

// tell passes on one piece of news.
function tell(news) {
  const feed = document.getElementById('feed')
  if (feed) {
    feed.prepend(entry(news, feed.dataset.order))
    while (feed.children.length > 12) feed.lastChild.remove()
  } else {
    document.getElementById('news').textContent = news.text
  }
  refresh()
}

// entry is a piece of news as a line of the feed. The order's path has the business unit in its query.
function entry(news, path) {
  const item = document.createElement('li')
  item.className = `new was-${news.status} did-${news.summary.code}`
  const text = item.appendChild(document.createElement('p'))
  text.className = 'text'
  const link = text.appendChild(document.createElement('a'))
  const url = new URL(path, location.href)
  url.pathname += news.order
  link.href = url
  link.className = 'number'
  link.textContent = news.number
  text.append(' ', Object.assign(document.createElement('bdi'), { textContent: news.text }))
  return item
}

// refresh fetches the page and exchanges its live parts, at most once in a while, and always once after the last call.
let busy = false
let again = false
async function refresh() {
  if (busy) {
    again = true
    return
  }
  busy = true
  try {
    const answer = await fetch(location.href, { headers: { Accept: 'text/html' } })
    if (answer.ok) exchange(new DOMParser().parseFromString(await answer.text(), 'text/html'))
  } catch { // the server is away: its next event brings us here again
  }
  setTimeout(() => {
    busy = false
    if (again) {
      again = false
      refresh()
    }
  }, 700)
}

function exchange(page) {
  for (const fresh of page.querySelectorAll('[data-live]')) {
    const old = document.getElementById(fresh.id)
    if (!old) continue
    const known = new Set(Array.from(old.querySelectorAll('[data-id]'), e => e.dataset.id))
    for (const e of fresh.querySelectorAll('[data-id]')) {
      if (!known.has(e.dataset.id)) e.classList.add('new')
    }
    const opened = Array.from(old.querySelectorAll('details'), d => d.open)
    fresh.querySelectorAll('details').forEach((d, i) => { d.open = opened[i] ?? false })
    localise(fresh)
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null
    old.replaceWith(document.adoptNode(fresh))
    if (focused) document.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true })
  }
}
