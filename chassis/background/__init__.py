"""What is done after the answer has left: messages, their delivery, pools."""
