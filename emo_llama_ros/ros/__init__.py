"""The ROS 2 edge: messages become frames, estimates become messages. Nothing outside this folder imports ROS."""
