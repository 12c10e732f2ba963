// One shared text in one room. The tests drive it through `hooks`; the bundler's alias decides which y-webrtc it is.
import * as Y from 'yjs'
import { WebrtcProvider } from 'y-webrtc'

const doc = new Y.Doc()
const text = doc.getText('text')
let provider

const connections = () => [...provider?.room?.webrtcConns.values() ?? []]

const heardFrom = new WeakSet()

// Not waited for by `heard`: Playwright, which waits for conditions to be true, takes a promise for true.
const listen = async peer => {
  const statistics = await peer._pc?.getStats()
  const brought = ({ type, label, messagesReceived }) =>
    type === 'data-channel' && label === peer._channel?.label && messagesReceived > 0
  if ([...statistics?.values() ?? []].some(brought)) heardFrom.add(peer)
}

window.hooks = {
  join (room, password, signaling) {
    provider = new WebrtcProvider(room, doc, { password, signaling: [signaling], peerOpts: { config: { iceServers: [] } } })
  },

  leave: () => provider.destroy(),

  // As docs/security.md has it.
  renew (url, token) {
    provider.signalingUrls = [url]
    for (const conn of provider.signalingConns) {
      conn.url = url
      if (conn.connected) conn.send({ action: 'authenticate', token })
    }
  },

  makeNoise: () => setInterval(() => provider?.signalingConns.filter(({ connected }) => connected)
    .forEach(conn => conn.send({ type: 'noise' })), 25),

  insert: string => text.insert(text.length, string),

  text: () => text.toString(),

  // Of a pair that glared both sides say "connected" and no data flows: each has a channel of its own, and listens to no
  // other. What came over it tells the truth. The text tells it of two pages only: three relay it to each other.
  peers: () => connections().filter(({ connected }) => connected).length,

  heard () {
    connections().forEach(({ peer }) => listen(peer))
    return connections().filter(({ peer }) => heardFrom.has(peer)).length
  },

  // "connected" comes after the channel's open event, so no signaling can explain a channel that is "connecting" then.
  stuckChannels: () => connections().filter(({ connected, peer }) =>
    connected && peer._channel.readyState === 'connecting').length,

  peersWithoutSignaling: () => provider?.room?.bcConns.size ?? 0
}
