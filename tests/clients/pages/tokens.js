// Sockets of a page's own that show a token: the browser's WebSocket, and one that reconnects by itself.
import ReconnectingWebSocket from 'partysocket/ws'

let opened = 0
let socket

window.hooks = {
  // The subprotocol that the server picks, or null if it refuses.
  open: (url, protocols) => new Promise(resolve => {
    const socket = new WebSocket(url, protocols)
    socket.onopen = () => resolve(socket.protocol)
    socket.onclose = () => resolve(null)
  }),

  // Each time that it opens, it shows the next token.
  keepOpen: (url, tokens) => {
    socket = new ReconnectingWebSocket(url, async () => ['bearer', tokens.shift()], { minReconnectionDelay: 100 })
    socket.addEventListener('open', () => { opened++ })
  },

  opened: () => opened,

  send: frame => socket.send(frame)
}
