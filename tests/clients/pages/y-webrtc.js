// One shared text in one room. The tests drive it through `hooks`; the bundler's alias decides which y-webrtc it is.
import * as Y from 'yjs'
import { WebrtcProvider } from 'y-webrtc'

const doc = new Y.Doc()
const text = doc.getText('text')
let provider

window.hooks = {
  join (room, password, signaling) {
    provider = new WebrtcProvider(room, doc, { password, signaling: [signaling], peerOpts: { config: { iceServers: [] } } })
  },

  leave: () => provider.destroy(),

  insert: string => text.insert(text.length, string),

  text: () => text.toString(),

  // Of a pair that glared both sides say "connected" and no data flows; only the text tells the truth.
  peers: () => [...provider?.room?.webrtcConns.values() ?? []].filter(peer => peer.connected).length,

  peersWithoutSignaling: () => provider?.room?.bcConns.size ?? 0
}
