// A member of one channel behind a socket that reconnects by itself; the same for a browser and for Node.
import ReconnectingWebSocket from 'partysocket/ws'

/** Joins a channel whenever the socket opens, which is all that an application has to add. `hear` is called with each text. */
export const member = (url, channel, hear, options = {}) => {
  const socket = new ReconnectingWebSocket(url, [], { minReconnectionDelay: 100, ...options })
  socket.addEventListener('open', () => socket.send(JSON.stringify({ action: 'joinchannel', channel })))
  socket.addEventListener('message', ({ data }) => hear(data))
  return socket
}
