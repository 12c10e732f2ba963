import { member } from './pubsub.js'

const heard = []
let socket

window.hooks = {
  heard,
  join: (url, channel) => { socket = member(url, channel, text => heard.push(text)) },
  send: frame => socket.send(frame)
}
